"""The tables and the picture."""

from xml.etree import ElementTree

from tools.bench.axes import BY_NAME
from tools.bench.plot import OURS, svg
from tools.bench.report import BEGIN, END, into, markdown, number
from tools.bench.result import Result

ABOUTS = {"peertap": "by default", "fastd": "mode tap", "easytier": "udp"}


def result() -> Result:
    made = Result(absent={"easytier": "not found in PATH | nor elsewhere", "tinc": "left out by --peers"})
    made.add("peertap", {"tcp1": 12345.6, "rtt_ms": 0.2})
    made.add("fastd", {"tcp1": 800.0, "rtt_ms": 0.25})
    made.add("veth", {"tcp1": 40000.0})
    made.about = {"rounds": 3, "cores": 2}
    made.problems = ["fastd, relay: no answer"]
    return made


def rows_of(page: str, title: str) -> dict[str, list[str]]:
    """The cells of the table under a heading, by the first."""
    lines = page.partition(f"### {title}\n")[2].partition("\n###")[0].splitlines()
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines if line.startswith("|")]
    return {row[0]: row[1:] for row in cells[2:]}


def test_the_tables_have_a_row_for_each_peer_and_a_column_for_each_measured_axis() -> None:
    page = markdown(result(), abouts=ABOUTS)
    speed = rows_of(page, "Speed, direct")
    assert speed["**peertap**"] == ["12 346"]
    assert speed["veth"] == ["40 000"]
    latency = rows_of(page, "Latency and cost, direct")
    assert latency == {"**peertap**": ["0.200"], "fastd": ["0.250"]}
    assert "### Through a relay" not in page


def test_a_peer_that_is_absent_is_a_row_that_says_so_and_one_that_was_left_out_is_none() -> None:
    page = markdown(result(), abouts=ABOUTS)
    assert rows_of(page, "Speed, direct")["easytier"] == ["absent: see below"]
    assert rows_of(page, "Peers")["easytier"][0] == "absent: not found in PATH / nor elsewhere"
    assert "tinc" not in rows_of(page, "Speed, direct")


def test_the_requirements_say_what_is_wanted_what_was_measured_and_whether_it_holds() -> None:
    wanted = rows_of(markdown(result(), abouts=ABOUTS), "What must hold")
    meaning, value, compared, margin, verdict = wanted["`tcp1`"]
    assert (meaning, value, margin, verdict) == ("TCP, 1 flow", "12 346", "1.93", "yes")
    assert compared == "≥ 8 × fastd (15.4 ×)"
    assert "`tcp4`" not in wanted


def test_problems_are_told_and_prose_is_wrapped() -> None:
    page = markdown(result(), abouts=ABOUTS, plot="performance.svg")
    assert "fastd, relay: no answer" in page
    assert "](performance.svg)" in page
    assert not [line for line in page.splitlines() if len(line) > 120 and not line.startswith("|")]


def test_a_page_keeps_what_is_outside_of_its_marks() -> None:
    page = f"# Title\n\n{BEGIN}\nold\n{END}\n\nafter\n"
    written = into(page, "new\n")
    assert written == f"# Title\n\n{BEGIN}\nnew\n{END}\n\nafter\n"
    assert into(written, "newer\n").count(BEGIN) == 1
    assert into("", "new\n") == "new\n"


def test_a_figure_has_its_axis_decimals() -> None:
    assert number(1234.5678, BY_NAME["tcp1"]) == "1 235"
    assert number(0.12345, BY_NAME["rtt_ms"]) == "0.123"
    assert number(None, BY_NAME["tcp1"]) == "–"


def test_the_picture_is_well_formed_and_its_bars_are_in_proportion() -> None:
    root = ElementTree.fromstring(svg(result().rows))
    name = "{http://www.w3.org/2000/svg}"
    bars = [bar for bar in root.iter(f"{name}rect") if bar.get("height") == "14"]
    texts = [text.text for text in root.iter(f"{name}text")]
    assert "peertap" in texts
    assert "veth" not in texts
    ours, theirs = (float(bar.get("width", "0")) for bar in bars[:2])
    assert bars[0].get("fill") == OURS
    assert abs(ours / theirs - 12345.6 / 800) < 0.1
    assert len(bars) == 4  # two panels of two


def test_the_picture_of_nothing_is_well_formed() -> None:
    assert ElementTree.fromstring(svg(Result().rows)).tag.endswith("svg")
