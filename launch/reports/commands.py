"""The exact commands behind a report, as a section of its page."""

from collections.abc import Sequence

from launch.cli import options
from launch.pages import page
from launch.pages.page import Section
from launch.reports.comparison import Compared
from launch.runs import provenance


def section(compared: Compared | None, report: str, study: Sequence[str] = ()) -> Section:
    """The command of each run, in the order of the page, those of a study, and that of the page itself."""
    configs = {} if compared is None else compared.configs
    lines = [*(options.command("launch.train", config) for config in configs.values()), *study]
    revision = provenance.revision()
    return Section(
        "Commands",
        "Settings that are not named have the defaults of this revision"
        + (f" ({revision})" if revision else "")
        + ". The data are prepared by launch.prepare; the protocol above says with what, and their fingerprint.",
        page.commands([*lines, report]),
    )
