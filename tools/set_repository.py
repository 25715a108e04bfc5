"""Write the repository's address where it is needed: `make colab REPO=owner/name` calls this.

Its one place is pyproject.toml; from there it goes into each notebook's set-up cell and Colab badge, into the
README's badge and into CITATION.cff. Run it again to change the address. Stored outputs stay as they are.
"""

from __future__ import annotations

import json
import re
import sys
import tomllib
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
HOST = "https://github.com/"
BADGE_START = "[![Open in Colab]("


class RepositoryError(ValueError):
    """The address or a file that it belongs into is not as it should be."""


def set_repository(repository: str, root: Path = ROOT) -> list[Path]:
    """Write the address into every file that carries it.

    Args:
        repository: GitHub's `owner/name`.
        root: Folder of the clone.

    Returns:
        The files that changed.

    Raises:
        RepositoryError: The address has another form, or a file lacks its place. Nothing is written then.
    """
    if not re.fullmatch(r"[A-Za-z0-9](-?[A-Za-z0-9]){0,38}/(?!\.)[\w.-]{1,100}(?<!\.git)", repository, re.ASCII):
        raise RepositoryError(f"REPO={repository} is not an address: write make colab REPO=owner/name, as on GitHub")

    project = root / "pyproject.toml"
    texts = {project: _replace(project, r'^Repository = ".*"$', f'Repository = "{HOST}{repository}"')}
    # From here on the address is the one that the project file holds.
    repository = tomllib.loads(texts[project])["tool"]["batchlab"]["Repository"].removeprefix(HOST)

    notebooks = sorted((root / "notebooks").glob("*.ipynb"))
    if not notebooks:
        raise RepositoryError("there are no notebooks to write the address into")
    for path in notebooks:
        texts[path] = _notebook_with(repository, path)

    readme = root / "README.md"
    start, end = "<!-- colab -->", "<!-- /colab -->"
    line = f"{start}\n{_badge(repository, notebooks[0])}\n{end}"
    texts[readme] = _replace(readme, rf"{start}.*?{end}", line, flags=re.DOTALL)
    citation = root / "CITATION.cff"
    if citation.exists() and "repository-code:" in citation.read_text(encoding="utf-8"):
        texts[citation] = _replace(citation, r"^repository-code:.*$", f'repository-code: "{HOST}{repository}"')

    changed = [path for path, text in texts.items() if text != path.read_text(encoding="utf-8")]
    for path in changed:
        path.write_text(texts[path], encoding="utf-8", newline="\n")
    return changed


def _replace(path: Path, pattern: str, line: str, flags: re.RegexFlag = re.MULTILINE) -> str:
    """The file's text with the one match of `pattern` replaced."""
    if not path.exists():
        raise RepositoryError(f"{path.name} is missing")
    text, count = re.subn(pattern, lambda _: line, path.read_text(encoding="utf-8"), flags=flags)
    if count != 1:
        raise RepositoryError(f"{path.name} has {count} places for the address instead of one ({pattern})")
    return text


def _notebook_with(repository: str, path: Path) -> str:
    notebook = json.loads(path.read_text(encoding="utf-8"))
    cells = notebook["cells"]

    title = next((cell for cell in cells[:1] if cell["cell_type"] == "markdown"), None)
    set_up = next((cell for cell in cells if "set-up" in cell["metadata"].get("tags", [])), None)
    if title is None or set_up is None:
        raise RepositoryError(f"{path.name} lacks its title cell or its cell tagged set-up")

    heading, *rest = [line for line in _source(title).split("\n") if not line.startswith(BADGE_START)]
    body = "\n".join(rest).strip("\n")
    _set_source(title, "\n\n".join(filter(None, [heading, _badge(repository, path), body])))

    source, count = re.subn(r'^REPOSITORY = ".*?"', f'REPOSITORY = "{repository}"', _source(set_up), flags=re.MULTILINE)
    if count != 1:
        raise RepositoryError(f'the set-up cell of {path.name} has no line REPOSITORY = "..."')
    _set_source(set_up, source)
    # Jupyter's own layout, so that a change shows as the lines that changed.
    return json.dumps(notebook, indent=1, ensure_ascii=False) + "\n"


def _badge(repository: str, notebook: Path) -> str:
    colab = "https://colab.research.google.com"
    page = f"{colab}/github/{repository}/blob/main/notebooks/{notebook.name}"
    return f"{BADGE_START}{colab}/assets/colab-badge.svg)]({page})"


def _source(cell: dict[str, Any]) -> str:
    return "".join(cell["source"])


def _set_source(cell: dict[str, Any], text: str) -> None:
    cell["source"] = text.splitlines(keepends=True)


def main() -> int:
    """Take owner/name from the command line; return the exit status."""
    try:
        changed = set_repository(sys.argv[1] if len(sys.argv) == 2 else "")
    except RepositoryError as error:
        print(error, file=sys.stderr)
        return 2
    print("\n".join(f"wrote {path.relative_to(ROOT)}" for path in changed) or "nothing to change")
    if changed:
        print("Colab reads the branch main on GitHub: commit this and push it there.")
    return 0


if __name__ == "__main__":
    sys.exit(main())
