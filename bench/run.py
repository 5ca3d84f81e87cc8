"""Byre and qemu-img in turn on the same inputs: ``make bench``, or ``python bench/run.py --quick``.

Writes ``bench/runs/<date>-<machine>/`` with results.md and results.json. Inputs are made under bench/work.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import shutil
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from jobs import FORMATS, Command, Job, convert_jobs, format_jobs, metadata_jobs
from measure import CommandError, Run, compile_byre, median, peak, progress, run, settle, spread

HERE = Path(__file__).resolve().parent
BYRE = str(Path(sys.executable).with_name("byre"))


def main() -> int:
    options = _options()
    compile_byre()
    work: Path = options.work
    work.mkdir(parents=True, exist_ok=True)
    inputs = _inputs(work, quick=options.quick)
    label = inputs.pop("label")
    jobs = [
        *convert_jobs(BYRE, inputs["raw"], inputs["plain"], inputs["zlib"], inputs["zstd"]),
        *metadata_jobs(BYRE, inputs["huge"], str(label)),
        *format_jobs(
            BYRE, inputs["raw"], inputs["plain"], {name: inputs[name] for name in FORMATS}, inputs["stream"]
        ),
    ]
    verbs = subprocess.run([BYRE, "--help"], capture_output=True, text=True, check=True).stdout
    rows: list[dict[str, Any]] = []
    if not options.only or options.only in "64 TiB":
        rows.append(_create_and_info(work, options.pairs))
    report = {"schema": "byre/bench/1", "machine": _machine(), "quick": options.quick, "rows": rows}
    for job in jobs:
        if options.only and options.only not in job.name:
            continue
        if f"\n  {job.verb} " not in verbs:
            rows.append({"name": job.name, "target": job.target, "skipped": f"no verb '{job.verb}' yet"})
            continue
        progress(f"{job.name} ...")
        try:
            rows.append(_measure(job, work, options.pairs))
            progress(f"{job.name}: {rows[-1]['ratio']:.2f} (aim {job.target})")
        except CommandError as error:
            rows.append({"name": job.name, "target": job.target, "skipped": str(error)})
            progress(str(error))
        _store(report, options.output)  # a run that is cut off keeps what it has measured
    folder = _store(report, options.output)
    print((folder / "results.md").read_text())
    if not options.keep:
        shutil.rmtree(work)
    return 0


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="small inputs, one pair: does it run at all?")
    parser.add_argument("--pairs", type=int, help="pairs of runs for each row (default 5, quick 1)")
    parser.add_argument("--only", metavar="TEXT", help="only rows whose name has this in it")
    parser.add_argument("--work", type=Path, default=HERE / "work", help="where inputs and outputs go")
    parser.add_argument("--output", type=Path, help="folder of the results (default bench/runs/<date>-<machine>)")
    parser.add_argument("--keep", action="store_true", help="keep the inputs for another run")
    options = parser.parse_args()
    options.pairs = options.pairs or (1 if options.quick else 5)
    return options


def _inputs(work: Path, *, quick: bool) -> dict[str, Any]:
    raw = work / f"disk-{'quick' if quick else 'full'}.raw"
    if not raw.exists():
        progress("making the inputs ...")
        part = raw.with_suffix(".part")
        # In a process of its own: what this one weighs would count in the peak of every command it starts.
        run((sys.executable, str(HERE / "mixture.py"), str(part), str((64 if quick else 1500) << 20)))
        part.rename(raw)
    found: dict[str, Any] = {"raw": raw}
    for name, words in (
        ("plain", ()),
        ("zlib", ("-c", "-m", "16", "-W")),
        ("zstd", ("-c", "-m", "16", "-W", "-o", "compression_type=zstd")),
    ):
        image = raw.with_name(f"{raw.stem}-{name}.qcow2")
        if not image.exists():
            run(("qemu-img", "convert", "-f", "raw", "-O", "qcow2", *words, str(raw), str(image)))
        found[name] = image
    for name, suffix, words in (
        *((name, name, ("-O", other)) for name, other in FORMATS.items()),
        ("stream", "vmdk", ("-O", "vmdk", "-o", "subformat=streamOptimized")),
    ):
        image = raw.with_name(f"{raw.stem}-{name}.{suffix}")
        exact = ("-o", "force_size=on") if name == "vhd" else ()
        if not image.exists():
            run(("qemu-img", "convert", "-f", "raw", *words, *exact, str(raw), str(image)))
        found[name] = image
    size = "16G" if quick else "1T"
    found["huge"], found["label"] = work / f"huge-{size}.qcow2", f"{size[:-1]} {size[-1]}iB of metadata"
    if not found["huge"].exists():
        words = ("-f", "qcow2", "-o", "preallocation=metadata", str(found["huge"]), size)
        run(("qemu-img", "create", *words))
    for path in found.values():
        if isinstance(path, Path) and path != found["huge"]:  # warm the page cache; not with a terabyte of holes
            subprocess.run(["cat", str(path)], stdout=subprocess.DEVNULL, check=True)
    return found


def _measure(job: Job, work: Path, pairs: int) -> dict[str, Any]:
    best = job.theirs[0]
    if len(job.theirs) > 1:
        trials = [(_one(job, command, work / f"trial{job.suffix}")[0].wall, command) for command in job.theirs]
        best = min(trials)[1]
    ours: list[Run] = []
    theirs: list[Run] = []
    sizes = {"ours": 0, "theirs": 0}
    for number in range(pairs):
        order = (("ours", job.ours, ours), ("theirs", best, theirs))
        for who, command, runs in order if number % 2 == 0 else order[::-1]:
            out = work / f"{who}{job.suffix}"
            taken, sizes[who] = _one(job, command, out, prove=number == 0)
            runs.append(taken)
    unsafe = None
    if job.unsafe is not None:
        unsafe = median([_one(job, job.unsafe, work / f"unsafe{job.suffix}")[0] for _ in range(min(3, pairs))])
    extras = []
    for what, command in job.extra:
        taken, size = _one(job, command, work / f"extra{job.suffix}", prove=True)
        extras.append({"what": what, "wall": taken.wall, "size": size, "ratio": taken.wall / median(theirs)})
    ratios = sorted(one.wall / other.wall for one, other in zip(ours, theirs, strict=True))
    return {
        "name": job.name,
        "target": job.target,
        "ratio": median(ours) / median(theirs),
        "pair_ratios": [round(ratio, 3) for ratio in ratios],
        "ours": {"wall": median(ours), "spread": spread(ours), "peak": peak(ours), "size": sizes["ours"]},
        "theirs": {"wall": median(theirs), "spread": spread(theirs), "peak": peak(theirs), "size": sizes["theirs"]},
        "unsafe_wall": unsafe,
        "extra": extras,
        "commands": {"ours": " ".join(job.ours), "theirs": " ".join(best)},
        "proof": _proof(job),
    }


def _proof(job: Job) -> str:
    if job.compare_with is not None:
        return "qemu-img compare of both outputs with the source"
    return "qemu-img check of both images afterwards" if job.check else "both exit statuses are 0"


def _one(job: Job, command: Command, out: Path, *, prove: bool = False) -> tuple[Run, int]:
    """One run from a clean start; (what it took, bytes of its output on the host)."""
    out.unlink(missing_ok=True)
    names = {"{out}": str(out), "{img}": str(out)}
    if job.copy_of is not None:
        subprocess.run(["cp", "--sparse=always", "--reflink=auto", str(job.copy_of), str(out)], check=True)
        for step in job.before:
            run([names.get(word, word) for word in step])
    settle()
    taken = run([names.get(word, word) for word in command], ok=job.ok)
    if prove and job.compare_with is not None:
        form = {**FORMATS, "raw": "raw", "qcow2": "qcow2"}[job.suffix.removeprefix(".")]
        run(("qemu-img", "compare", "-f", "raw", "-F", form, str(job.compare_with), str(out)))
    if prove and job.check:
        run(("qemu-img", "check", "-f", "qcow2", str(out)))
    size = out.stat().st_blocks * 512 if out.exists() else 0
    out.unlink(missing_ok=True)
    return taken, size


def _create_and_info(work: Path, pairs: int) -> dict[str, Any]:
    image = work / "enormous.qcow2"
    above = []
    for _ in range(pairs):
        image.unlink(missing_ok=True)
        bare = sum(run((sys.executable, "-c", "pass")).wall for _ in range(2))
        took = run((BYRE, "create", str(image), "64T")).wall + run((BYRE, "info", str(image))).wall
        above.append(took - bare)
    image.unlink(missing_ok=True)
    return {
        "name": "create + info, 64 TiB, seconds above two bare interpreters",
        "target": 0.3,
        "ratio": sorted(above)[len(above) // 2],
        "pair_ratios": [round(value, 3) for value in sorted(above)],
        "commands": {"ours": f"{BYRE} create {image} 64T; {BYRE} info {image}", "theirs": "python -c pass, twice"},
        "proof": "-",
    }


def _machine() -> dict[str, object]:
    cpu = next(
        (
            line.partition(":")[2].strip()
            for line in Path("/proc/cpuinfo").read_text().splitlines()
            if line.startswith("model name")
        ),
        platform.processor(),
    )
    version = subprocess.run(["qemu-img", "--version"], capture_output=True, text=True, check=True).stdout
    ours = subprocess.run([BYRE, "--version"], capture_output=True, text=True, check=True).stdout
    commit = subprocess.run(["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True, cwd=HERE)
    return {
        "host": platform.node(),
        "cpu": cpu,
        "cpus": os.cpu_count(),
        "kernel": platform.release(),
        "python": platform.python_version(),
        "qemu_img": version.splitlines()[0],
        "byre": f"{ours.strip()} ({commit.stdout.strip()})",
        "date": datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
        "load": os.getloadavg()[0],
    }


def _store(report: dict[str, Any], output: Path | None) -> Path:
    machine = report["machine"]
    quick = "-quick" if report["quick"] else ""
    folder = output or HERE / "runs" / f"{machine['date'][:10]}-{machine['host']}{quick}"
    folder.mkdir(parents=True, exist_ok=True)
    here = f"{HERE.parent}/"  # where this machine keeps the project is nobody's business
    (folder / "results.json").write_text(json.dumps(report, indent=2, ensure_ascii=False).replace(here, "") + "\n")
    (folder / "results.md").write_text(_markdown(report).replace(here, ""))
    return folder


def _markdown(report: dict[str, Any]) -> str:
    machine = report["machine"]
    lines = [
        "# Byre and qemu-img, in turn, on the same inputs",
        "",
        f"{machine['date']}, {machine['cpu']}, {machine['cpus']} CPUs, Linux {machine['kernel']}, "
        f"Python {machine['python']}, {machine['byre']}, {machine['qemu_img']}; "
        f"load at the end {machine['load']:.1f}.",
        "",
        "Medians of wall time; ratio = Byre ÷ qemu-img at its best settings with equal durability. 'unsafe' is "
        "qemu-img's own default, which doesn't wait for the disk. Warm page cache, sync before each run.",
        "",
        "| job | ratio | aim | | Byre | qemu-img | unsafe | peak memory | output, size |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    if report["quick"]:
        lines[4:4] = ["**A smoke run on small inputs: start-up time is most of it, and the aims don't apply.**", ""]
    for row in report["rows"]:
        lines.append(_markdown_row(row))
        for extra in row.get("extra", ()):
            lines.append(
                f"| … {extra['what']} | {extra['ratio']:.2f} | | | {extra['wall']:.2f} s | | | "
                f"| {extra['size'] / 2**20:.0f} MiB |"
            )
    lines += ["", "## Commands and proof", ""]
    for row in report["rows"]:
        if "commands" in row:
            lines += [
                f"- **{row['name']}**: `{row['commands']['ours']}` against `{row['commands']['theirs']}`; "
                f"proof: {row['proof']}; ratios of the pairs {row['pair_ratios']}"
            ]
    return "\n".join(lines) + "\n"


def _markdown_row(row: dict[str, Any]) -> str:
    if "skipped" in row:
        return f"| {row['name']} | | {row['target']} | not run: {row['skipped'].splitlines()[0]} | | | | | |"
    met = "met" if row["ratio"] <= row["target"] else "**missed**"
    if "theirs" not in row:
        return f"| {row['name']} | {row['ratio']:.2f} s | {row['target']} s | {met} | | | | | |"
    ours, theirs = row["ours"], row["theirs"]
    unsafe = "" if row["unsafe_wall"] is None else f"{row['unsafe_wall']:.2f} s"
    size = f"{ours['size'] / 2**20:.0f} / {theirs['size'] / 2**20:.0f} MiB" if ours["size"] else ""
    peaks = f"{ours['peak'] / 2**20:.0f} / {theirs['peak'] / 2**20:.0f} MiB"
    return (
        f"| {row['name']} | {row['ratio']:.2f} | {row['target']} | {met} | {ours['wall']:.2f} s | "
        f"{theirs['wall']:.2f} s | {unsafe} | {peaks} | {size} |"
    )


if __name__ == "__main__":
    sys.exit(main())
