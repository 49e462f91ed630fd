"""Small files of many formats, made with the libraries that write them."""

from __future__ import annotations

import zipfile

TABLE = [["Valve", "Turns"], ["V-3", "11"]]


def write_files(folder, files):
    """Write texts or bytes by relative path, and return the folder."""
    for name, content in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return folder


def pdf_bytes(pages, more=b"", trailer=b"", catalog=b""):
    """Return a PDF with the lines of each page; `more` are further objects, from number 4 + 2n."""
    kids = b" ".join(b"%d 0 R" % (4 + 2 * n) for n in range(len(pages)))
    objects = [
        b"<< /Type /Catalog /Pages 2 0 R %s >>" % catalog,
        b"<< /Type /Pages /Kids [%s] /Count %d >>" % (kids, len(pages)),
        b"<< /Type /Font /Subtype /Type1 /BaseFont /Helvetica >>",
    ]
    for number, lines in enumerate(pages):
        drawn = b"".join(b"(%s) Tj T*\n" % line.encode("latin-1") for line in lines)
        stream = b"BT /F1 10 Tf 12 TL 50 750 Td\n%sET" % drawn
        objects.append(
            b"<< /Type /Page /Parent 2 0 R /MediaBox [0 0 595 842] /Contents %d 0 R "
            b"/Resources << /Font << /F1 3 0 R >> >> >>" % (5 + 2 * number)
        )
        objects.append(b"<< /Length %d >>\nstream\n%s\nendstream" % (len(stream), stream))
    content, places = b"%PDF-1.4\n", []
    for number, one in enumerate([*objects, *([more] if more else [])], start=1):
        places.append(len(content))
        content += b"%d 0 obj\n%s\nendobj\n" % (number, one)
    table = b"".join(b"%010d 00000 n \n" % place for place in places)
    return content + (
        b"xref\n0 %d\n0000000000 65535 f \n%strailer\n<< /Root 1 0 R /Size %d %s >>\n"
        b"startxref\n%d\n%%%%EOF" % (len(places) + 1, table, len(places) + 1, trailer, len(content))
    )


def encrypted_pdf():
    """Return a PDF that cannot be opened without a password."""
    key = b"0" * 64
    handler = b"/Filter /Standard /V 1 /R 2 /P -4 /O <%s> /U <%s>" % (key, key)
    return pdf_bytes([["secret"]], trailer=b"/Encrypt << %s >> /ID [<00> <00>]" % handler)


def write_docx(path):
    """Write a Word document with headings, a list and a table."""
    import docx

    made = docx.Document()
    made.add_heading("Pumps", 1)
    made.add_paragraph("Pump P-7 moves water.")
    made.add_heading("Service", 2)
    made.add_paragraph("Check the seal.", style="List Bullet")
    table = made.add_table(rows=2, cols=2)
    for row, values in enumerate(TABLE):
        for column, value in enumerate(values):
            table.cell(row, column).text = value
    made.save(path)
    return path


def write_pptx(path):
    """Write two slides: one with bullets and notes, one with a table."""
    import pptx

    made = pptx.Presentation()
    slide = made.slides.add_slide(made.slide_layouts[1])
    slide.shapes.title.text = "Pumps"
    slide.placeholders[1].text = "P-7 moves water\nP-9 is spare"
    slide.notes_slide.notes_text_frame.text = "Mention the oil."
    slide = made.slides.add_slide(made.slide_layouts[6])
    table = slide.shapes.add_table(2, 2, 0, 0, 100, 100).table
    for row, values in enumerate(TABLE):
        for column, value in enumerate(values):
            table.cell(row, column).text = value
    made.save(path)
    return path


def write_xlsx(path, sheets):
    """Write a workbook: rows by the name of their sheet."""
    import openpyxl

    made = openpyxl.Workbook()
    made.remove(made.active)
    for name, rows in sheets.items():
        sheet = made.create_sheet(name)
        for row in rows:
            sheet.append(row)
    made.save(path)
    return path


def write_epub(path, chapters):
    """Write a book of chapters (name, html), in the order of its spine."""
    items = "".join(f'<item id="i{n}" href="{name}"/>' for n, (name, _) in enumerate(chapters))
    spine = "".join(f'<itemref idref="i{n}"/>' for n in range(len(chapters)))
    with zipfile.ZipFile(path, "w") as book:
        book.writestr(
            "META-INF/container.xml",
            '<container xmlns="urn:oasis:names:tc:opendocument:xmlns:container"><rootfiles>'
            '<rootfile full-path="OPS/book.opf"/></rootfiles></container>',
        )
        book.writestr(
            "OPS/book.opf",
            '<package xmlns="http://www.idpf.org/2007/opf">'
            f"<manifest>{items}</manifest><spine>{spine}</spine></package>",
        )
        for name, html in chapters:
            book.writestr(f"OPS/{name.replace('%20', ' ')}", html)
    return path
