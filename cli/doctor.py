"""``afterglow doctor``: what is wrong around the engine, a line each."""

from __future__ import annotations

from pathlib import Path

import msgspec

from cli import common
from dataflows.doctor.findings import Finding, fault
from dataflows.doctor.machine import gather_machine
from dataflows.doctor.machine_checks import check_imports


def examine(config: Path | None, sets: list[str] | None, *, as_json: bool) -> int:
    """Print every finding; 1 if there is a fault."""
    machine = gather_machine()
    findings, looked_at = list(check_imports(machine)), list[str]()
    if not findings:
        more, looked_at = _examine_settings(config, sets)
        findings += more
    faults = sum(found.level == "fault" for found in findings)
    if as_json:
        report = {
            "well": not faults,
            "looked_at": looked_at,
            "findings": [found.as_dict() for found in findings],
        }
        print(msgspec.json.format(msgspec.json.encode(report)).decode())
        return int(faults > 0)
    for found in findings:
        print(found.line())
    where = f" Looked at: {'; '.join(looked_at)}." if looked_at else ""
    said = f"{faults} fault{'s' * (faults != 1)}" if faults else "no fault"
    print(f"{said}, {len(findings) - faults} to look at.{where}")
    return int(faults > 0)


def _examine_settings(
    config: Path | None, sets: list[str] | None
) -> tuple[list[Finding], list[str]]:
    from dataflows.doctor.examine import examine
    from dataflows.settings import SettingsError

    try:
        settings = common.settings(config, sets)
    except SettingsError as error:
        return [_wrong(said) for said in _complaints(str(error))], []
    done = examine(settings, gather_machine(()))
    return done.findings, done.looked_at


def _complaints(text: str) -> list[str]:
    """One for each wrong setting; lines that only point into an expression are left out."""
    return [line for line in text.splitlines() if not line.startswith(" ")]


def _wrong(said: str) -> Finding:
    """What the settings say is wrong with them: path, need and what came, in one line."""
    path, _, rest = said.partition(": ")
    needed, _, came = rest.rpartition(", but ")
    return fault(
        "settings.wrong",
        f"the setting {path} is wrong",
        needed or "a setting that means something",
        came.removesuffix(" came") or rest,
        "Mend it in the settings file, the environment or --set; `afterglow settings` shows where "
        "each comes from, afterglow.toml what each may be",
    )
