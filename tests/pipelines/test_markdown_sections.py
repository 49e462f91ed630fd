import pytest

from pipelines.markdown_sections import sections


@pytest.mark.parametrize(
    ("text", "headings"),
    [
        ("# A\none\n# B #\ntwo", ["A", "B"]),
        ("#A\none\n####### B\ntwo\n#\tC\nthree", ["", "C"]),
        ("# A\nuse ```x``` here\n# B\ntwo", ["A", "B"]),
        ("# A\n````\n```\n# no\n```\n# no\n````\n# B\ntwo", ["A", "B"]),
        ("# A\n```\n~~~\n# no\n```\n# B\ntwo", ["A", "B"]),
        ("# A\n~~~ py\n# no\n~~~\n# B\ntwo", ["A", "B"]),
        ("# A\n```\n# never closed", ["A"]),
        ("# A\n\n    # code\n\n- # item\n\n> # quote\n\n# B\ntwo", ["A", "B"]),
        ("A\n===\none\n\nB\n---\ntwo", [""]),
        ("# C#\none", ["C#"]),
    ],
)
def test_headings_divide_and_code_does_not(text, headings):
    found = list(sections(text))
    assert [heading for heading, _ in found] == headings
    assert " ".join(section for _, section in found).split() == text.split()


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("---\ntitle: T\ntags:\n- a\n  b: c\n# so\n\n---\n# A\none", [("A", "# A\none")]),
        ("---\ntitle: T\n...\none", [("", "one")]),
        (
            "---\nSome prose stands here.\n---\none",
            [("", "---\nSome prose stands here.\n---\none")],
        ),
        ("---\ntitle: never closed\none", [("", "---\ntitle: never closed\none")]),
        ("---\ntitle: T\n---", []),
        (
            "---\n# One\n\n- a\n- b\n---\n# Two\nbody",
            [("One", "# One\n\n- a\n- b\n---"), ("Two", "# Two\nbody")],
        ),
        ("", []),
    ],
)
def test_what_stands_in_front_matter_is_no_text(text, found):
    assert list(sections(text)) == found
