"""The report in a real browser: headless Chromium opens the file, without a server, and a probe in it looks around."""

import html
import json
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from conftest import ROOT, missing
from memorization.report import page, rows

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome", "chrome"))), None)

PUBLISHED = ROOT / page.PUBLISHED
OPTIONS = (
    "--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--disable-quic", "--no-first-run",
    "--disable-background-networking", "--disable-component-update", "--disable-sync", "--virtual-time-budget=20000",
)  # fmt: skip

PROBE = """
<script>
addEventListener("load", async () => {
  const frame = FRAME, own = frame.document;
  const rows = [...own.querySelectorAll("table.claims tbody tr")];
  const shown = () => rows.filter((row) => row.getClientRects().length).map((row) => row.id);
  const said = () => own.querySelector("#filters output").textContent;
  const choose = (changes) => {
    for (const [name, value] of Object.entries(changes)) own.getElementById("filters").elements[name].value = value;
    own.getElementById("filters").dispatchEvent(new frame.Event("input", {bubbles: true}));
    return {shown: shown(), said: said(), nothing: !own.getElementById("nothing").hidden};
  };
  const until = async (holds) => {
    for (let tries = 0; tries < 200 && !holds(); tries++) await new Promise((done) => setTimeout(done, 50));
  };
  const found = {
    width: frame.innerWidth, body: own.documentElement.scrollWidth,
    wide: [...own.body.querySelectorAll("*")].filter((e) => e.getBoundingClientRect().right > frame.innerWidth + 1 &&
      !e.closest(".scroll, .picture, .skip, thead")).map((e) => e.outerHTML.slice(0, 120)),
    small: [...own.querySelectorAll("p, td, figcaption, .found")].filter((e) =>
      parseFloat(frame.getComputedStyle(e).fontSize) < 12).length,
    images: [...own.images].map((image) => [image.naturalWidth, image.getBoundingClientRect().width, image.alt.length]),
    background: frame.getComputedStyle(own.body).backgroundColor,
    all: shown(), filters: own.getElementById("filters").getClientRects().length,
    paper: choose({paper: "closer_look"}), both: choose({verdict: "not reproduced"}),
    words: choose({paper: "", verdict: "", words: "exposure RISES"}), none: choose({words: "no such words"}),
  };
  frame.location.hash = rows[0].id;  // a link to a claim that is filtered away
  await until(() => shown().length);
  found.linked = shown().length;
  choose({verdict: "reproduced"});
  own.querySelector("#filters button").click();
  await until(() => shown().length === rows.length);
  found.reset = shown().length;
  found.requests = frame.performance.getEntriesByType("resource").map((entry) => entry.name)
    .filter((name) => !name.startsWith("data:"));
  found.refused = frame.refused;
  const out = document.createElement("pre");
  out.id = "probe";
  out.textContent = JSON.stringify(found);
  document.body.append(out);
});
</script>
"""
LISTEN = """
<script>window.refused = []; addEventListener("securitypolicyviolation", (e) => refused.push(e.blockedURI));</script>
"""


@pytest.fixture(scope="module", autouse=True)
def _chromium():
    if CHROMIUM is None:
        missing("Chromium", "Debian: apt-get install chromium")


def opened(path: Path, *options: str) -> str:
    """What Chromium prints of the page at `path`."""
    command = [CHROMIUM, *OPTIONS, f"--user-data-dir={path.parent / 'profile'}", *options, path.as_uri()]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=240, check=False)
    assert ended.returncode == 0, ended.stderr[-2000:]
    return ended.stdout


def probed(path: Path, *options: str) -> dict:
    """What the probe in the page at `path` found."""
    answer = re.search(r'<pre id="probe">(.*?)</pre>', opened(path, "--dump-dom", *options), re.DOTALL)
    assert answer, "the probe did not finish"
    return json.loads(html.unescape(answer[1]))


@pytest.fixture(scope="module")
def report(tmp_path_factory):
    """A page of the committed verdicts, tables and previews."""
    folder = tmp_path_factory.mktemp("report")
    places = page.Places(folder / "results", folder / "figures", PUBLISHED)
    places.results.mkdir()
    shutil.copyfile(PUBLISHED / "claims.csv", places.results / "claims.csv")
    for preview in PUBLISHED.glob("*/preview_*.png"):
        target = places.figures / preview.parent.name / preview.name.removeprefix("preview_")
        target.parent.mkdir(parents=True, exist_ok=True)
        target.symlink_to(preview)
    path = places.results / "report.html"
    page.write(places, path)
    return path


@pytest.fixture(scope="module")
def claims():
    return rows.read(PUBLISHED / "claims.csv")


@pytest.fixture(scope="module")
def desktop(report):
    """What the probe finds on a large screen."""
    path = report.with_name("desktop.html")
    text = report.read_text().replace("<head>", f"<head>{LISTEN}", 1)
    path.write_text(text.replace("</body>", PROBE.replace("FRAME", "window") + "</body>"))
    return probed(path, "--window-size=1280,900")


@pytest.fixture(scope="module")
def phone(report):
    """On a phone: a frame of 390 x 844 pixels, as a window cannot be as narrow everywhere."""
    path = report.with_name("phone.html")
    inner = html.escape(report.read_text().replace("<head>", f"<head>{LISTEN}", 1))
    frame = f'<iframe width="390" height="844" style="border:0" srcdoc="{inner}"></iframe>'
    probe = PROBE.replace("FRAME", "document.querySelector('iframe').contentWindow")
    path.write_text(f"<!doctype html><body>{frame}{probe}</body>")
    return probed(path)


def test_it_is_one_file_of_reasonable_size_with_every_published_figure(report, desktop):
    assert report.stat().st_size < 25e6
    assert len(desktop["images"]) == len(list(PUBLISHED.glob("*/preview_*.png"))) >= 40
    assert all(natural > 0 and drawn > 0 and words > 80 for natural, drawn, words in desktop["images"])


def test_nothing_leaves_the_page(desktop, phone):
    for found in (desktop, phone):
        assert found["requests"] == []
        assert found["refused"] == []


def test_the_filters_show_what_they_say(desktop, claims):
    assert desktop["filters"] == 1
    assert len(desktop["all"]) == len(claims)
    of_paper = claims[claims["paper"] == "closer_look"]
    of_both = of_paper[of_paper["verdict"] == "not reproduced"]
    assert len(of_both) > 0
    assert len(desktop["paper"]["shown"]) == len(of_paper)
    assert all(name.startswith("claim-closer-look-") for name in desktop["paper"]["shown"])
    assert len(desktop["both"]["shown"]) == len(of_both)
    assert desktop["both"]["said"] == f"{len(of_both)} of {len(claims)} claims"
    assert 0 < len(desktop["words"]["shown"]) < len(claims)
    assert desktop["none"] == {"shown": [], "said": f"0 of {len(claims)} claims", "nothing": True}
    assert desktop["linked"] == desktop["reset"] == len(claims)


def test_a_phone_reads_it_without_scrolling_sideways(phone, claims):
    assert phone["width"] == 390
    assert phone["body"] <= 390
    assert phone["wide"] == []
    assert phone["small"] == 0
    assert len(phone["all"]) == len(claims)
    assert len(phone["both"]["shown"]) > 0
    assert all(natural > 0 and drawn >= 360 for natural, drawn, _ in phone["images"])


def test_dark_where_the_reader_prefers_it(report, desktop):
    light = desktop["background"]
    path = report.with_name("desktop.html")
    dark = probed(path, "--window-size=1280,900", "--blink-settings=preferredColorScheme=0")["background"]
    assert {light, dark} == {"rgb(255, 255, 255)", "rgb(21, 23, 26)"}
