"""Addresses of pages, for the links of tables: from any page, they open in a new tab."""

from __future__ import annotations

from urllib.parse import urlencode


def domain_address(domain: str) -> str:
    """Return the address of a domain's page.

    Example:
        >>> domain_address("law")
        'domains?domain=law'
    """
    return f"domains?{urlencode({'domain': domain})}"


def job_address(job_id: str) -> str:
    """Return the address of a job.

    Args:
        job_id: whole: the links of tables show its first digits.
    """
    return f"ingest?{urlencode({'job': job_id})}"


def document_address(document_id: str) -> str:
    """Return the address of a document's page.

    Args:
        document_id: whole: the links of tables show its first digits.
    """
    return f"document?{urlencode({'id': document_id})}"


def row_address(domain: str, label: str, host_layer: int, row: int) -> str:
    """Return the address of an expert row's page.

    Args:
        domain: of its pool.
        label: of a version that holds it.
        host_layer: where the row stands.
        row: its number there.
    """
    asked = {"domain": domain, "version": label, "layer": host_layer, "row": row}
    return f"experts?{urlencode(asked)}"
