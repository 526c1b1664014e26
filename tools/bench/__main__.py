"""Runs recipes, prints a table, writes bench/results.json."""

import importlib
import json
import pathlib
import pkgutil
import sys

import recipes
from harness import Failed, Missing
from lab import Lab

ROOT = pathlib.Path(__file__).resolve().parent.parent.parent


def known():
    """Recipes by the names of their rows."""
    found = {}
    for module in pkgutil.iter_modules(recipes.__path__):
        recipe = importlib.import_module(f"recipes.{module.name}")
        for name in recipe.ROWS:
            found[name] = recipe
    return found


def number(value):
    return f"{value:,.0f}" if value >= 1000 else f"{value:.3g}"


def table(rows):
    head = ("name", "metric", "ours", "peer", "peer's", "ratio", "target", "met")
    lines = [head]
    for row in rows:
        lines.append((row["name"], row["metric"], f"{number(row['ours'])} {row['unit']}",
                      row["peer"], f"{number(row['peer_value'])} {row['unit']}",
                      f"{row['ratio']:.3g}", row["target"], "yes" if row["met"] else "NO"))
    widths = [max(len(line[at]) for line in lines) for at in range(len(head))]
    return "\n".join("  ".join(cell.ljust(width) for cell, width in zip(line, widths)).rstrip()
                     for line in lines)


def merge(path, rows):
    """Rows that were not measured this time stay as they were."""
    fresh = {row["name"] for row in rows}
    try:
        kept = [row for row in json.loads(path.read_text()) if row["name"] not in fresh]
    except (OSError, ValueError):
        kept = []
    path.parent.mkdir(exist_ok=True)
    path.write_text(json.dumps(sorted(kept + rows, key=lambda row: row["name"]), indent=2) + "\n")


def main(names):
    every = known()
    unknown = [name for name in names if name not in every]
    if unknown:
        sys.exit(f"error: no recipe {', '.join(unknown)}; there are {', '.join(sorted(every))}")
    rows, failed = [], []
    for name in names or sorted(every):
        try:
            with Lab() as lab:
                print(f"==> {name}", file=sys.stderr, flush=True)
                rows.append(every[name].measure(name, lab).as_dict())
        except Missing as missing:
            print(f"skipped {name}: {missing}; `tools/setup bench` installs the peers",
                  file=sys.stderr)
        except Failed as failure:
            print(f"error: {name}: {failure}", file=sys.stderr)
            failed.append(name)
    merge(ROOT / "bench" / "results.json", rows)
    print(table(rows))
    if failed:
        sys.exit(f"error: {', '.join(failed)} could not be measured")


main(sys.argv[1:])
