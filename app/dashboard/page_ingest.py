"""The page Ingest: a corpus is looked at, learned, and watched while it is."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import streamlit as st

from app.dashboard.clicks import click, wanted
from app.dashboard.columns import job_column
from app.dashboard.frames.ingest import duration, jobs_frame, near_frame, preview_frame
from app.dashboard.frames.learning import WEIGHTED
from app.dashboard.job_view import watch
from app.dashboard.launch import MAX_UPLOAD_MB
from app.dashboard.page import StorePlace, View, offered_folders, page, plain, who, why
from app.output import size
from app.settings_options import Setting, read_settings, training_settings
from peer_cl.errors import CorpusError, PeerError
from pipelines.corpora import SUFFIXES
from pipelines.documents import several
from pipelines.jobs import start_ingest
from pipelines.previewing import LEAST_TOKENS, SHAPE_TOKENS, Preview, near_domains, preview
from pipelines.store import open_store
from pipelines.uploads import Source, Upload, check_within
from stores.domain_names import check_domain_name

if TYPE_CHECKING:
    from streamlit.runtime.uploaded_file_manager import UploadedFile

    from pipelines.bad_rows import BadRowPolicy
    from pipelines.settings import TrainingSettings

NEW = "a new domain"
ON_DISK, UPLOADED = "A file or folder on the server", "A file of mine"
OFFERED = ("text_passes", "fact_passes", "row_learning_rate", "hold_out_percent", "seed")
"""The settings that the page offers; all are options of `peer-cl ingest`."""
NUM_JOBS = 50
FORM = "ingest_form"
"""Key of the session: what stands in the form. Streamlit forgets a widget's own value as soon as a
page is drawn without it."""
START = "ingest_start"
"""What a click on the form's last button is for."""


@dataclass(frozen=True)
class Wanted:
    """What the form says now."""

    store: StorePlace
    """Another that was made in its folder was not previewed."""
    domain: str
    corpus: UploadedFile | str
    facts: UploadedFile | str
    rewordings: UploadedFile | str
    given: tuple[tuple[str, Any], ...]
    why: str
    learn_erased: bool = False

    @property
    def key(self) -> tuple[Any, ...]:
        """What a preview depends on."""
        read = (self.corpus, self.facts, self.rewordings)
        named = [getattr(item, "file_id", item) for item in read]
        return (self.store, self.domain, *named, self.given, self.learn_erased)

    @property
    def settings(self) -> TrainingSettings | None:
        """Settings other than every ingest's, or None."""
        return training_settings(dict(self.given)) if self.given else None


@page("Ingest", "Teach the store a corpus, and watch it learn.")
def show(seen: View) -> None:
    """Show the page."""
    chosen = st.query_params.get("job")
    if chosen:
        if st.button("All jobs", icon=":material/arrow_back:"):
            del st.query_params["job"]
            st.rerun()
        watch(seen, seen.store.registry.jobs.find(chosen))
        return
    for job in reversed(seen.store.registry.jobs.listed(only_open=True)):
        with st.container(border=True):
            watch(seen, job)
    _ask(seen)
    wanted(START)  # what the form says now is not what was to be started
    _list_jobs(seen)


def _ask(seen: View) -> None:
    """Show the form, the preview of what it says, and the button that starts it."""
    st.subheader("A new ingest", anchor=False)
    if seen.is_all_out:
        st.info(
            "No domain is live. What was taken out is brought back on the Domains page, without "
            "an ingest.",
            icon=":material/inventory_2:",
        )
    elif not seen.live.domains:
        st.info(
            "This store knows nothing yet. Give it a folder or a file of text about one subject: "
            "txt (one document a file), md (one a section) or jsonl (one a line).",
            icon=":material/school:",
        )
    form = _form(seen)
    if form is None:
        return
    try:
        check_domain_name(form.domain)
        _act(seen, form)
    except Exception as error:
        st.error(plain(why(error, "ingesting")), icon=":material/error:")  # jobs are shown still


def _form(seen: View) -> Wanted | None:
    """Show the inputs and return what they say, or None while something needed is missing."""
    left, right = st.columns(2, gap="large")
    with left:
        folders = offered_folders()
        places = (UPLOADED,) if folders == () else (ON_DISK, UPLOADED)
        key = _refilled("ingest-place", places[0])
        place = st.radio("Where is the corpus?", places, horizontal=True, key=key)
        if folders and place == ON_DISK:
            st.caption(plain(f"Anything below {', '.join(map(str, folders))}."))
        corpus = _source("Corpus", place, suffixes=SUFFIXES)
        with st.expander("Facts to learn besides (optional)"):
            st.caption(
                "A jsonl file; each line has a subject, a relation, an answer and a statement."
            )
            facts = _source("Facts", place, suffixes=(".jsonl",))
        with st.expander("The documents in other words (optional)"):
            st.caption(
                "A jsonl file; each line has a document's text and its rewordings, a list. "
                "`peer-cl reword` writes one. They are learned with their documents."
            )
            rewordings = _source("Rewordings", place, suffixes=(".jsonl",))
    with right:
        domain = _domain(seen)
        learns_erased = _learns_erased(seen, domain)
        why = st.text_input(
            "Why? (kept in the history)",
            placeholder="asked for by the clinic",
            key=_refilled("ingest-why", ""),
        )
        given = _readings()
    if not corpus or not domain:
        st.caption("Say where the corpus is and which domain learns it; then look at a preview.")
        return None
    also = (facts or "", rewordings or "")
    return Wanted(seen.place, domain, corpus, *also, given, why, learns_erased)


def _refilled(key: str, default: str | float) -> str:
    """Give a widget what stood in it before another page was looked at, and return its key.

    Args:
        key: the widget's, which must have no value of its own.
        default: where nothing stood in it.
    """
    kept = st.session_state.setdefault(FORM, {})
    # What is typed is there before the page runs; only a widget that comes anew has nothing.
    st.session_state.setdefault(key, kept.get(key, default))
    kept[key] = st.session_state[key]
    return key


def _source(what: str, place: str, suffixes: tuple[str, ...]) -> UploadedFile | str | None:
    """Ask for a path, or for a file."""
    kinds = ", ".join(suffix.removeprefix(".") for suffix in suffixes)
    if place == ON_DISK:
        told = f"{what}: path on the server ({kinds}{', or a folder' if len(suffixes) > 1 else ''})"
        return st.text_input(told, key=_refilled(f"path-{what}", "")).strip()
    return st.file_uploader(
        f"{what}: a file ({kinds}, up to {MAX_UPLOAD_MB} MB)",
        type=[suffix.removeprefix(".") for suffix in suffixes],
        key=f"upload-{what}",
    )


def _domain(seen: View) -> str:
    """Ask which domain learns."""
    names = [state.domain for state in seen.live.domains]
    first, key = st.query_params.get("domain", ""), "ingest-domain"
    if key not in st.session_state and first in names:  # a link says more than what stood here
        st.session_state[key] = first
    _refilled(key, NEW)
    if st.session_state[key] not in (NEW, *names):  # it was taken out meanwhile
        st.session_state[key] = NEW
    chosen = st.selectbox(
        "Domain",
        [NEW, *names],
        key=key,
        help="A domain that is there grows by a part of its own, which can be taken back.",
    )
    if chosen != NEW:
        return str(chosen)
    return st.text_input(
        "Name of the new domain",
        max_chars=64,
        placeholder="medicine",
        key=_refilled("ingest-name", ""),
        help="a-z, 0-9, '.', '_' and '-'; it cannot be changed later.",
    ).strip()


def _learns_erased(seen: View, domain: str) -> bool:
    """Ask whether what was erased from the domain is to be learned, where anything was."""
    num = seen.store.registry.erased.count(domain)
    return bool(num) and st.checkbox(
        f"Learn what was erased from it too ({several(num, 'document')})",
        key=_refilled("ingest-erased", False),
        help="Documents that were erased exactly are left out of what you give, unless you say so.",
    )


def _readings() -> tuple[tuple[str, Any], ...]:
    """Ask for settings, and return those that are not every ingest's."""
    known = {item.name: item for item in read_settings("pipelines.settings", "TrainingSettings")}
    with st.expander("Readings, learning rate, what is held out"):
        said = [(name, _number(known[name])) for name in OFFERED]
    return tuple((name, value) for name, value in said if value != known[name].default)


def _number(setting: Setting) -> float | int:
    label, told = setting.name.replace("_", " "), plain(setting.help)
    key = _refilled(f"ingest-{setting.name}", setting.default)
    if setting.kind is int:
        return int(st.number_input(label, min_value=0, key=key, help=told))
    shown = "%.4f" if setting.default < 0.1 else "%.1f"
    step = setting.default / 6 if setting.default < 0.1 else 0.5
    return float(st.number_input(label, min_value=0.0, key=key, step=step, format=shown, help=told))


def to_source(given: UploadedFile | str) -> Source:
    """Return what a person gave as a source.

    Raises:
        CorpusError: when an upload is too large, or no text, or a path is not offered here.
    """
    if isinstance(given, str):
        check_within(given, offered_folders())
        return given
    if given.size > MAX_UPLOAD_MB << 20:
        size_mb = given.size / (1 << 20)
        raise CorpusError(
            f"the upload has {size_mb:.0f} MB; at most {MAX_UPLOAD_MB} can be uploaded: put the "
            "file on the server's disk and give its path"
        )
    return Upload(given.name, given.getvalue())


def _besides(form: Wanted) -> dict[str, Any]:
    """Return what is given beside the corpus, and how all is learned.

    Raises: as `to_source`.
    """
    return {
        "facts": to_source(form.facts) if form.facts else None,
        "rewordings": to_source(form.rewordings) if form.rewordings else None,
        "settings": form.settings,
        "learn_erased": form.learn_erased,
    }


def _act(seen: View, form: Wanted) -> None:
    """Offer a preview; with one, what it found, and the start."""
    buttons = st.container(horizontal=True)
    stands = st.session_state.get("ingest_preview", (None,))[0] == form.key
    # Once a preview stands, the step that comes next is the start.
    kind: Literal["primary", "secondary"] = "secondary" if stands else "primary"
    if buttons.button("Preview", icon=":material/visibility:", type=kind, key="ingest-look"):
        st.session_state.pop("ingest_preview", None)
        with st.spinner("Reading the corpus"), open_store(seen.folder) as store:
            found = preview(store, form.domain, to_source(form.corpus), **_besides(form))
        st.session_state["ingest_preview"] = (form.key, found)
        st.rerun()
    told = "Reads 20 of its documents with the base model; takes some seconds."
    if buttons.button("Look for similar domains", icon=":material/compare:", help=told):
        with st.spinner("Loading the base model"), open_store(seen.folder) as store:
            alike = near_domains(store, to_source(form.corpus), form.domain)
        st.session_state["ingest_near"] = (form.key, alike)
    _show_near(form)
    key, found = st.session_state.get("ingest_preview", (None, None))
    if found is not None and key == form.key:
        settings = form.settings
        _show_preview(found, holds_out=settings is None or settings.hold_out_percent > 0)
        _offer_start(seen, form, found)


def _show_near(form: Wanted) -> None:
    key, alike = st.session_state.get("ingest_near", (None, ()))
    if key != form.key:
        return
    if not alike:
        st.success("No live domain would take these documents for its own.")
        return
    st.warning(
        "These domains would be asked about documents like these. If they are about the same "
        "subject, let that domain learn them."
    )
    st.dataframe(near_frame(alike), hide_index=True, alt="Domains that the corpus looks like")


def _show_preview(found: Preview, *, holds_out: bool) -> None:
    figures = (
        ("New documents", f"{found.num_new:,}"),
        ("Learned", f"{found.num_to_learn:,}"),
        ("Held out", f"{found.num_to_hold_out:,}"),
        ("Tokens", f"{found.num_tokens:,}"),
        ("Pool on disk", size(found.size_bytes)),
        ("Learning takes about", duration(found.seconds)),
    )
    with st.container(horizontal=True):
        for name, value in figures:
            st.metric(name, value, border=True, width="content")
    if found.num_new:
        _warn(found, holds_out=holds_out)
    st.dataframe(preview_frame(found), hide_index=True, alt="What is in the corpus")
    least, most = SHAPE_TOKENS
    measured = f"chosen on corpora of {least:,} to {most:,} tokens"
    if not found.is_size_measured:
        measured += "; this one is of another size, for which no shape was measured"
    st.caption(
        f"The pool has {found.num_experts:,} experts in each of {found.num_host_layers} layers: "
        f"the default shape, {measured}. Time: reckoned from {found.seconds_from}; "
        "measuring afterwards comes on top."
    )
    if found.problems:
        st.warning(f"Lines that cannot be read: {found.num_skipped:,}, the first of them:")
        st.code("\n".join(found.problems), language=None)


def _warn(found: Preview, *, holds_out: bool) -> None:
    """Say what will be poor about an ingest, before it is started."""
    if found.is_tiny:
        st.warning(
            f"There is little text: {found.num_tokens:,} tokens get "
            f"{found.num_experts * found.num_host_layers:,} experts, which learn it by heart and "
            f"little else. Below about {LEAST_TOKENS:,} tokens, look for more text of the subject.",
            icon=":material/warning:",
        )
    if not found.is_measurable:
        st.warning(
            "No text of the domain would be held out to test with, so what it learns cannot be "
            f"measured. {'More documents' if holds_out else 'A share above 0'} can change that.",
            icon=":material/warning:",
        )


def _offer_start(seen: View, form: Wanted, found: Preview) -> None:
    is_skipping = bool(found.num_skipped) and st.checkbox(
        f"Leave out lines that cannot be read ({found.num_skipped:,})"
    )
    evaluates = st.checkbox(
        "Measure what was learned and kept afterwards", value=found.is_measurable
    )
    if not found.num_new:
        st.info("There is nothing new in it to learn.")
    refusal = _refusal(seen, form.domain)
    if refusal:
        st.warning(plain(f"It cannot learn now: {refusal}."), icon=":material/lock:")
    is_ready = bool(found.num_new) and (is_skipping or not found.num_skipped) and not refusal
    st.button(
        "Start learning",
        icon=":material/play_arrow:",
        type="primary",
        disabled=not is_ready,
        **click(START, form.key),
    )
    if wanted(START) == form.key and is_ready:
        _start(seen, form, "skip" if is_skipping else "stop", evaluates=evaluates)


def _refusal(seen: View, domain: str) -> str:
    """Return why a domain may not grow now, such as a store that is full; or nothing."""
    state = seen.live.state(domain)
    try:
        seen.store.registry.check_growth(domain, state.version if state is not None else None)
    except PeerError as error:
        return str(error)
    return ""


def _start(seen: View, form: Wanted, on_bad_row: BadRowPolicy, *, evaluates: bool) -> None:
    """Start the ingest, and show its job."""
    with open_store(seen.folder, who=who()) as store:
        job = start_ingest(
            store,
            form.domain,
            to_source(form.corpus),
            **_besides(form),
            why=form.why,
            on_bad_row=on_bad_row,
            evaluate=evaluates,
        )
    st.session_state.pop("ingest_preview", None)
    st.session_state.pop(FORM, None)  # it was for this ingest
    st.query_params["job"] = job.id
    st.rerun()


def _list_jobs(seen: View) -> None:
    """List the jobs, each with a link to it."""
    st.subheader("Jobs", anchor=False)
    jobs = seen.store.registry.jobs.listed(NUM_JOBS)
    if not jobs:
        st.caption("None yet. A job that you start goes on when you close this page.")
        return
    st.dataframe(
        jobs_frame(jobs),
        hide_index=True,
        alt="Jobs, the newest first, with a link to each",
        column_config={
            "job": job_column(),
            "asked": st.column_config.DatetimeColumn("asked (UTC)", format="YYYY-MM-DD HH:mm"),
            "minutes": st.column_config.NumberColumn(format="%.1f"),
            "loss": st.column_config.NumberColumn(
                "weighted loss",
                format="%.3f",
                help=f"Mean over the last tenth of the steps so far. {WEIGHTED}",
            ),
        },
    )
