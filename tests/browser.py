"""A page is opened in headless Chromium at the widths of a screen and of a phone."""

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

__all__ = ["CHROMIUM", "look"]

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
    links: document.links.length,
    lost: [...document.links].map((a) => a.getAttribute('href'))
      .filter((href) => href[0] === '#' && !document.getElementById(href.slice(1))),
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
