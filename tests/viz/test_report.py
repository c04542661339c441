import pandas as pd
import pytest

from geossl.viz import report


def test_a_page_stands_alone_and_escapes_what_it_is_given(tmp_path):
    frame = pd.DataFrame({"<b>method</b>": ["a & b", "c"], "value": [0.12345, 0.5]})
    png = b"\x89PNG"
    section = report.Section(
        "1 < 2", "words & <i>tags</i>", [report.table_block(frame, best=1, caption='"quoted"'),
                                         report.figure_block(png, alt='an "alt"')],
    )  # fmt: skip
    report.write_page(tmp_path / "p.html", title="<t>", lead="l", sections=[section], foot="f&g")
    page = (tmp_path / "p.html").read_text("utf-8")
    for wanted in (
        "<h1>&lt;t&gt;</h1>", "1 &lt; 2", "&lt;i&gt;tags", "&lt;b&gt;method", "a &amp; b", "0.123",
        'alt="an &#34;alt&#34;"', "f&amp;g",
    ):  # fmt: skip
        assert wanted in page
    assert "http://" not in page and "https://" not in page
    assert [p.name for p in tmp_path.iterdir()] == ["p.html"]


def test_a_page_is_written_whole_or_not_at_all(tmp_path):
    path = tmp_path / "p.html"
    path.write_text("before")
    with pytest.raises(TypeError):
        report.write_page(path, title="t", lead="l", sections=[report.Section("s", "w", [None])])
    assert path.read_text() == "before" and len(list(tmp_path.iterdir())) == 1


def test_what_is_refused():
    frame = pd.DataFrame({"value": [1, 2]})
    with pytest.raises(ValueError, match="`best` must be a row from 0 to 1, got 2"):
        report.table_block(frame, best=2)
    with pytest.raises(TypeError, match="`blocks"):
        report.Section("title", "words", "no list")
