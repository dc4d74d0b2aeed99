"""``ptshare report`` as a user calls it, and its page in a real browser."""

from __future__ import annotations

import html.parser
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import ptshare_plugin

COMMAND = Path(sys.executable).with_name("ptshare")
BROWSER = shutil.which("chromium") or shutil.which("google-chrome")
needs_browser = pytest.mark.skipif(BROWSER is None, reason="no chromium on PATH")
HOSTILE = "<script>alert(1)</script><!--&\"'"
SWEEP = """\
[base]
workload = "scan"
engine = "stream"
region = "2MiB"
[axes]
policy = ["private", "ptshare"]
procs = [1, 2]
work = [1, 2]
[repeat]
seeds = 2
"""

Done = subprocess.CompletedProcess[str]


def ptshare(*args: object, cwd: Path) -> Done:
    return subprocess.run(
        [COMMAND, *map(str, args)], cwd=cwd, text=True, capture_output=True, timeout=600
    )


class Reader(html.parser.HTMLParser):
    """Ids, references, rows of the table of runs and scripts of a page, without running any."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.ids: list[str] = []
        self.links: list[str] = []
        self.scripts = 0
        self.rows: list[list[str]] = []
        self._inside = self._cell = False
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        named = dict(attrs)
        self.ids += [value for name, value in attrs if name == "id" and value]
        self.links += [v for n, v in attrs if n in ("src", "href", "xlink:href", "srcset") and v]
        self.scripts += tag == "script"
        if tag == "table":
            self._inside = named.get("class") == "runs"
        elif tag == "tr" and self._inside:
            self.rows.append([])
        elif tag in ("td", "th") and self._inside:
            self._cell = True
            self.rows[-1].append("")

    def handle_endtag(self, tag: str) -> None:
        self._cell = self._cell and tag not in ("td", "th")

    def handle_data(self, data: str) -> None:
        if self._cell:
            self.rows[-1][-1] += data


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A sweep with a failed and a half-written run, ways, and a page of it all."""
    place = tmp_path_factory.mktemp("report")
    (place / "sweep.toml").write_text(SWEEP)
    done = ptshare("sweep", "sweep.toml", "-o", "out", cwd=place)
    assert done.returncode == 0, done.stderr
    (place / "out" / "failed" / "abc.json").write_text(
        json.dumps({"run": "abc", "reason": f"no luck {HOSTILE}", "command": ["ptshare", HOSTILE]})
    )
    (place / "out" / "runs" / "half").mkdir()
    (place / "out" / "runs" / "half" / "run.json").write_text("{")
    hostile = next((place / "out" / "runs").glob("[0-9a-f]*[0-9a-f]"))
    record = json.loads((hostile / "run.json").read_text())
    record["args"], record["command"] = [HOSTILE], ["ptshare", "run", HOSTILE]
    (hostile / "run.json").write_text(json.dumps(record))
    small = ("--procs", "2,4", "--cores", "2", "--region", "2MiB", "--piece", "64KiB")
    assert ptshare("protect-ways", *small, "-o", "ways.csv", cwd=place).returncode == 0
    done = ptshare("report", "out", "ways.csv", "-o", "r.html", "--figures", "figures", cwd=place)
    assert done.returncode == 0, done.stderr
    assert "half" in done.stderr and len(done.stderr.splitlines()) == 1
    return place


@pytest.fixture(scope="module")
def page(place: Path) -> str:
    return (place / "r.html").read_text(encoding="utf-8")


def test_page_is_whole_without_scripts_and_asks_for_nothing(page: str) -> None:
    reader = Reader(page)
    assert len(reader.rows) == 17 and len({len(row) for row in reader.rows}) == 1
    assert reader.links and all(link.startswith("#") for link in reader.links)
    assert {link[1:] for link in reader.links} <= set(reader.ids)
    assert len(set(reader.ids)) == len(reader.ids)
    assert not re.search(r"https?:|url\((?!#)|@import", page)


def test_figures_of_runs_are_those_of_the_frame(page: str, place: Path) -> None:
    target = place / "summary"
    assert ptshare("summary", "out", "--format", "dataset", "-o", target, cwd=place).returncode == 0
    frame = ptshare_plugin.load(target).set_index("run")
    heading, *rows = Reader(page).rows
    assert len(rows) == len(frame) == 16
    for row in rows:
        run = frame.loc[row[0]]
        assert row[heading.index("policy")] == run["policy"]
        assert row[heading.index("fault.total")].startswith(f"{run['fault.total']:,}")
        assert row[heading.index("walk.cycles")].startswith(f"{run['walk.cycles']:,}")


def test_what_a_run_is_called_stays_text(page: str) -> None:
    assert Reader(page).scripts == 1 and "<script>alert" not in page
    assert page.count("&lt;script&gt;alert(1)&lt;/script&gt;") >= 4


def test_failures_and_skipped_folders_are_named(page: str) -> None:
    attention = page.partition('id="attention"')[2].partition("</section>")[0]
    assert "abc: no luck" in attention and "half/run.json" in attention


def test_every_figure_is_a_pdf_and_an_svg(page: str, place: Path) -> None:
    names = re.findall(r'<section class="figure" id="([^"]+)"', page)
    assert len(names) > 10
    wanted = {f"{name}{suffix}" for name in names for suffix in (".pdf", ".svg")}
    assert {path.name for path in (place / "figures").iterdir()} == wanted
    for name in names:
        assert f"figures/{name}.pdf" in page
        assert (place / "figures" / f"{name}.pdf").read_bytes().startswith(b"%PDF")


def test_same_input_same_bytes(page: str, place: Path) -> None:
    more = ("--figures", "again")
    assert ptshare("report", "out", "ways.csv", "-o", "r2.html", *more, cwd=place).returncode == 0
    assert (place / "r2.html").read_text(encoding="utf-8") == page
    for path in (place / "figures").iterdir():
        assert path.read_bytes() == (place / "again" / path.name).read_bytes(), path.name


def test_dataset_and_csv_give_the_same_figures(page: str, place: Path) -> None:
    assert (
        ptshare("summary", "out", "--format", "dataset", "-o", "set/summary", cwd=place).returncode
        == 0
    )
    ptshare_plugin.load(place / "set" / "summary").to_csv(place / "runs.csv", index=False)
    for name in ("set/summary", "runs.csv"):
        done = ptshare("report", name, "-o", "other.html", "--force", cwd=place)
        assert done.returncode == 0, done.stderr
        other = (place / "other.html").read_text(encoding="utf-8")
        shown = re.findall(r'<section class="figure" id="g[^"]+">.*?</figure>', other, re.DOTALL)
        assert len(shown) > 10
        assert all(figure in page for figure in shown), name


@pytest.mark.parametrize(
    ("args", "words"),
    [
        (("none", "-o", "x.html"), "none: no such file or folder"),
        (("empty", "-o", "x.html"), "empty: no run folder here"),
        (("out", "-o", "x.txt"), "-o x.txt: must end with .html"),
        (("out", "-o", "no/x.html"), "-o no/x.html: no such folder: no"),
        (("out", "-o", "r.html"), "--force replaces it"),
        (("out", "-o", "x.html", "--figures", "figures"), "--figures figures: is not empty"),
        (("out", "-o", "x.html", "--figures", "r.html"), "--figures r.html: there is something"),
        (("sweep.toml", "-o", "x.html"), "takes folders, .csv and .parquet files"),
        (("bad.csv", "-o", "x.html"), "bad.csv: no table of runs"),
        (("bad.parquet", "-o", "x.html"), "bad.parquet: damaged"),
        (("bare", "-o", "x.html"), "no run could be read; bare/run.json: damaged"),
        (("out",), "Missing option '--output'"),
    ],
)
def test_wrong_input_is_one_line(args: tuple[str, ...], words: str, place: Path) -> None:
    (place / "empty").mkdir(exist_ok=True)
    (place / "bare").mkdir(exist_ok=True)
    (place / "bare" / "run.json").write_text("{")
    (place / "bad.csv").write_text("a,b\n1,2\n")
    (place / "bad.parquet").write_text("x")
    done = ptshare("report", *args, cwd=place)
    assert done.returncode in (1, 2) and done.stdout == ""
    (line,) = done.stderr.splitlines()
    assert line.startswith("ptshare: error: ") and words in line
    assert not (place / "x.html").exists()


# In a browser -----------------------------------------------------------------------------------

PROBE = """
<script>
addEventListener("load", () => {
  const table = document.querySelector("table.runs");
  const column = (name) => [...table.tHead.rows[0].cells].findIndex((c) => c.textContent === name);
  const values = (name) => [...table.tBodies[0].rows].map((r) => r.cells[column(name)].dataset.v);
  const click = (name) => table.tHead.rows[0].cells[column(name)].querySelector("button").click();
  const found = {};
  click("walk.cycles"); found.up = values("walk.cycles");
  click("walk.cycles"); found.down = values("walk.cycles");
  click("policy"); found.words = values("policy");
  const style = getComputedStyle(document.body);
  found.ink = style.color; found.paper = style.backgroundColor;
  found.wide = document.documentElement.scrollWidth > innerWidth;
  found.text = getComputedStyle(document.querySelector("figure svg text")).fill;
  const note = document.createElement("script");
  note.type = "application/json"; note.id = "found";
  note.textContent = JSON.stringify(found);
  document.body.append(note);
});
</script>
"""


def browse(path: Path, tmp: Path, *options: str) -> Done:
    assert BROWSER is not None
    quiet = ["disable-gpu", "disable-quic", "no-first-run", "disable-background-networking"]
    quiet += ["disable-component-update", "disable-sync", "no-sandbox", "hide-scrollbars"]
    return subprocess.run(
        [
            *(BROWSER, "--headless", *(f"--{name}" for name in quiet)),
            *(f"--user-data-dir={tmp}", "--enable-logging=stderr", "--v=0", *options),
            path.as_uri(),
        ],
        text=True,
        capture_output=True,
        timeout=300,
        env={**os.environ, "HOME": str(tmp)},
    )


@needs_browser
@pytest.mark.parametrize("dark", [False, True])
@pytest.mark.parametrize("width", [400, 1400])
def test_page_in_a_browser(page: str, tmp_path: Path, dark: bool, width: int) -> None:
    path = tmp_path / "probed.html"
    path.write_text(page.replace("</body>", PROBE + "</body>"), encoding="utf-8")
    scheme = f"--blink-settings=preferredColorScheme={0 if dark else 1}"
    done = browse(path, tmp_path / "user", scheme, f"--window-size={width},900", "--dump-dom")
    assert done.returncode == 0, done.stderr
    assert "CONSOLE" not in done.stderr, done.stderr
    text = re.search(r'id="found">(.*?)</script>', done.stdout, re.DOTALL)
    assert text is not None
    found = json.loads(text[1])
    up = [float(value) for value in found["up"]]
    assert len(up) == 16 and up == sorted(up) and up[0] < up[-1]
    assert [float(value) for value in found["down"]] == up[::-1]
    assert found["words"] == sorted(found["words"])
    assert not found["wide"]  # only what scrolls by itself is wider than the window
    bright = {name: sum(map(int, re.findall(r"\d+", found[name])[:3])) for name in ("ink", "paper")}
    assert (bright["ink"] > bright["paper"]) == dark
    assert found["text"] == found["ink"]


@needs_browser
def test_a_browser_sees_errors(tmp_path: Path) -> None:
    """The check for errors would see one."""
    path = tmp_path / "wrong.html"
    path.write_text("<!doctype html><script>nothing.there()</script>")
    assert "CONSOLE" in browse(path, tmp_path / "user", "--dump-dom").stderr
