"""run.html in a browser: nothing overflows, fails or is fetched."""

from __future__ import annotations

import html
import json
import re
import shutil
import subprocess
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import pytest

from fastgan.train.page import write_page
from tests.conftest import NO_BROWSER
from tests.train.page_run import page_of, rewrite_config, rows_to

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")


PROBE = """
<html><body><script>
let left = 2;
addEventListener('message', (event) => {
  const line = document.createElement('pre');
  line.textContent = event.data;
  document.body.append(line);
});
for (const width of [1400, 420]) {
  const frame = document.createElement('iframe');
  frame.style.cssText = `width:${width}px;height:900px;border:0`;
  frame.srcdoc = PAGE;
  document.body.append(frame);
}
</script></body></html>
"""
INSIDE = """<script>
addEventListener('load', () => setTimeout(() => {
  const wide = [...document.querySelectorAll('body *')]
    .filter((e) => e.getBoundingClientRect().right > innerWidth + 0.5)
    .map((e) => e.outerHTML.slice(0, 80));
  const images = [...document.images];
  const fetched = performance.getEntriesByType('resource')
    .filter((e) => !e.name.startsWith('data:'));
  parent.postMessage('SAW ' + JSON.stringify({
    width: innerWidth, overflow: document.documentElement.scrollWidth - innerWidth, wide,
    images: images.length, broken: images.filter((i) => !i.naturalWidth).length,
    fetched: fetched.map((e) => e.name), charts: document.querySelectorAll('svg.curves').length,
  }), '*');
}, 50));
</script></body>"""


def look(page: str, folder: Path) -> tuple[list[dict], str]:
    """What a browser makes of a page at both widths, and what it had to say."""
    probe = folder / "probe.html"
    inside = json.dumps(page.replace("</body>", INSIDE)).replace("</", "<\\/")
    probe.write_text(PROBE.replace("PAGE", inside))
    flags = [
        "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
        "--disable-background-networking", "--disable-component-update", "--disable-sync",
        f"--user-data-dir={folder / 'profile'}", "--window-size=1900,1900",
        "--enable-logging=stderr", "--no-proxy-server", "--virtual-time-budget=5000", "--dump-dom",
    ]  # fmt: skip
    server = ThreadingHTTPServer(
        ("127.0.0.1", 0), partial(SimpleHTTPRequestHandler, directory=folder)
    )
    Thread(target=server.serve_forever, daemon=True).start()
    try:
        command = [str(CHROMIUM), *flags, f"http://127.0.0.1:{server.server_port}/probe.html"]
        done = subprocess.run(command, capture_output=True, text=True, timeout=240)
    finally:
        server.shutdown()
        server.server_close()
    lines = re.findall(r"<pre>SAW (\{.*?\})</pre>", done.stdout)
    saw = [json.loads(html.unescape(line)) for line in lines]
    assert sorted(found["width"] for found in saw) == [420, 1400], done.stderr[-2000:]
    return saw, done.stderr


@pytest.mark.slow
@pytest.mark.skipif(CHROMIUM is None, reason=NO_BROWSER)
def test_in_a_browser_nothing_overflows_fails_or_is_fetched(copy, tmp_path):
    data = json.loads((copy / "data.json").read_text())
    data |= {"classes": ["a-very-long-class-name-without-any-space" * 4, "b"], "prior": [0.5, 0.5]}
    (copy / "data.json").write_text(json.dumps(data))
    long = f"critic/{'long_name_' * 12}"
    rows = [{"step": s, "critic/loss": -1.0 * s, long: 1e9} for s in range(1, 8)]
    rows[3]["critic/loss"] = None
    rows_to(copy, rows)
    rewrite_config(copy, data={"source": "/a/very/long/path" * 20}, train={"steps": 7})
    write_page(copy)
    saw, said = look(page_of(copy), tmp_path)
    for found in saw:
        assert found["overflow"] <= 0 and found["wide"] == [], found
        assert found["images"] > 8 and found["broken"] == 0 and found["charts"] == 2
        assert found["fetched"] == []
    assert "CONSOLE" not in said


@pytest.mark.slow
@pytest.mark.skipif(CHROMIUM is None, reason=NO_BROWSER)
def test_the_browser_sees_planted_faults(tmp_path):
    (tmp_path / "there.css").write_text("p { color: red }")
    saw, said = look(
        '<html><head><link rel="stylesheet" href="there.css"></head><body>'
        '<p style="width:3000px">wide</p><img src="missing.png">'
        "<script>console.error('oh')</script></body></html>",
        tmp_path,
    )
    for found in saw:
        assert found["overflow"] > 1000 and found["wide"] and found["broken"] == 1
        names = {name.rpartition("/")[2] for name in found["fetched"]}
        assert names == {"there.css", "missing.png"}
    assert "CONSOLE" in said
