"""The context of tarn build holds what docker itself would send: their own packing is compared."""

import io
import itertools
import tarfile

import pytest

FILES = ["a", "b.txt", "README.md", "src/main.c", "src/main.o", "src/deep/x.o", "src/deep/keep.o",
         "docs/README.md", "docs/a/b/c.md", "node_modules/p/index.js", "temp", "temp1", "tempa/x",
         "x/temp/y", ".git/config", ".hidden", "a b/c d", "weird[1]", "weird*", "ä/ö", "deep/a/b/c",
         "deep/a/bc", "vendor/lib/a.go", "vendor/lib/sub/a.go", "!important"]
IGNORED = [
    "*.md\n!README.md\n",
    "**/*.o\n!**/keep.o\n",
    "*\n!src\n!docs/a\n",
    "*\n!src/deep/keep.o\nsrc/deep/*.x\n",
    "src\n!src/main.c\n",
    "temp?\n*/temp*\n*/*/temp*\n",
    "**/temp\n",
    "# a comment\n\n  docs  \n/src/deep/\n./deep/../temp\n",
    "deep/**\n!deep/a/b\n",
    "deep/**/c\nvendor/**\n!vendor/lib/*.go\n",
    "weird\\*\n[a-b]\n[^a-z]*\n",
    "weird[[]1]\n",
    ".*\n!.dockerignore\n",
    "**\n!src/**\nsrc/deep/**\n!src/deep/x.o\n",
    "Dockerfile\n.dockerignore\na\n",
    "**/README.md\n!docs\n",
    "a b\nä\n",
    "\\!important\nnode_modules/**/index.js\n",
    "vendor/lib\n!vendor/lib/sub\n",
    "*/*\n!*/main.c\n",
    "**/*\n!**/*.md\n",
    "docs/*\n!docs/a/b/*.md\n",
]


def names_in(layers):
    names = set()
    for layer in layers:
        with tarfile.open(fileobj=io.BytesIO(layer)) as archive:
            names |= {entry.name.strip("/").removeprefix("./") for entry in archive
                      if not entry.isdir()}
    return names


@pytest.fixture(scope="module")
def docker_packs(dockerd, tmp_path_factory):
    """The files that `docker build` has of a folder."""
    numbers = itertools.count()

    def pack(folder):
        tag = f"context-{next(numbers)}"
        dockerd.docker("build", "--quiet", "--tag", tag, folder)
        file = tmp_path_factory.mktemp("saved") / "image.tar"
        dockerd.docker("save", "--output", file, tag)
        with tarfile.open(file) as image:
            return names_in(image.extractfile(entry).read() for entry in image
                            if entry.name.endswith("layer.tar"))
    return pack


@pytest.mark.xdist_group("docker")
@pytest.mark.parametrize("patterns", IGNORED, ids=range(len(IGNORED)))
def test_docker_and_tarn_leave_out_the_same(builder, docker_packs, patterns):
    for name in FILES:
        builder.write(name, name)
    builder.write(".dockerignore", patterns)
    theirs = docker_packs(builder.folder)
    builder.build()
    _, contents = builder.unpacked()
    # docker sends both to its daemon in any case, and takes them away before the first step where
    # they are left out.
    both = {"Dockerfile", ".dockerignore"}
    assert set(contents) - both == theirs - both
    assert both <= set(contents)
