"""A hook of MkDocs: pages outside docs/ join the site; a file that a page links to becomes a page."""

import os
import re
from pathlib import Path

from mkdocs.exceptions import PluginError
from mkdocs.structure.files import File

ROOT = Path(__file__).parents[1]
LINK = re.compile(r"(\]\()((?!\w+:|#)[^)#\s]+)(#[^)\s]*)?(\))")


def source_of(uri):
    """The file of the repository that a page of the site stands for."""
    inside = ROOT / "docs" / uri
    return inside if inside.is_file() else ROOT / uri.removeprefix("source/").removesuffix(".source.md")


def place_of(path):
    """Where a file of the repository stands in the site."""
    name = path.relative_to(ROOT).as_posix()
    if name.startswith("docs/"):
        return name.removeprefix("docs/")
    return name if path.suffix in (".md", ".png", ".svg") else f"source/{name}.source.md"


def links_of(page):
    found = ((page.parent / match[2]).resolve() for match in LINK.finditer(page.read_text()))
    return {path for path in found if path.is_file() and path.is_relative_to(ROOT)}


def on_files(files, config):
    waiting, seen = [ROOT / "docs" / f.src_uri for f in files.documentation_pages()], set()
    named = re.findall(r": ([\w/.-]+\.md)$", (ROOT / "mkdocs.yml").read_text(), re.MULTILINE)
    waiting += [ROOT / name for name in named if (ROOT / name).is_file()]
    while waiting:
        page = waiting.pop()
        if page in seen:
            continue
        seen.add(page)
        place = place_of(page)
        if files.get_file_from_path(place) is None:
            if page.suffix in (".png", ".svg"):
                files.append(File(place, str(ROOT), config.site_dir, config.use_directory_urls))
            else:
                file = File.generated(config, place, content=text_of(page))
                if place == "README.md":  # would be the home page, as docs/index.md is
                    file.name, file.dest_uri = "readme", "readme.html"
                files.append(file)
        if page.suffix == ".md":
            waiting += links_of(page)
    places = {}
    for file in files:
        if (other := places.setdefault(file.dest_uri, file)) is not file:
            raise PluginError(f"{file.src_uri} and {other.src_uri} would both be {file.dest_uri}")
    return files


def text_of(path):
    if path.suffix == ".md":
        return path.read_text()
    kind = path.suffix.removeprefix(".")
    return f"# {path.relative_to(ROOT)}\n\n````{kind}\n{path.read_text()}\n````\n"


def on_page_markdown(markdown, page, config, files):
    here = source_of(page.file.src_uri)
    base = os.path.dirname(page.file.src_uri)

    def moved(match):
        target = (here.parent / match[2]).resolve()
        if not target.is_file():
            return match[0]
        return f"{match[1]}{os.path.relpath(place_of(target), base or '.')}{match[3] or ''}{match[4]}"

    return LINK.sub(moved, markdown) if here.suffix == ".md" else markdown
