"""The page of `dvc plots` needs no network."""

import re
from pathlib import Path

from dvc.config import Config
from dvc_render import VegaRenderer, render_html

ROOT = Path(__file__).parents[1]


def test_page_of_dvc_plots_loads_nothing_from_elsewhere(tmp_path: Path) -> None:
    template = ROOT / ".dvc" / Config(str(ROOT / ".dvc"))["plots"]["html_template"]
    plot = VegaRenderer([{"epoch": 1, "loss": 0.5, "rev": "workspace"}], "a", template="linear", x="epoch", y="loss")
    page = Path(render_html([plot], tmp_path / "index.html", template)).read_text(encoding="utf-8")

    assert re.findall(r"(?:src|href)\s*=\s*[\"']?https?://", page) == []
    assert len(re.findall("<script>", page)) >= 3
    assert "vegaEmbed" in page
    assert '"loss"' in page
