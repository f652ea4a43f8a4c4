"""Clients that ./check does not install, where they are there: Nix, Gradle, curl, rclone."""

from __future__ import annotations

import os

from attrs import evolve

from tests.clients.conftest import Project, Server, program


def test_nix(project: Project, server: Server) -> None:
    nix = program("nix")
    project.put(
        "conf/nix.conf",
        "experimental-features = nix-command\nsandbox = false\nbuild-users-group =\n"
        "substituters =\nrequire-sigs = false\n",
    )
    project = evolve(project, env={**project.env, "NIX_CONF_DIR": f"{project.directory}/conf"})
    project.put("words/deep/one.txt", "one\n")
    project.put("words/large.txt", "\n".join(map(str, range(200_000))))
    source, cache = f"{project.directory}/first", f"{server.place()}/nix"
    path = project.run(nix, "store", "add-path", "--store", source, "words").strip()
    project.run(nix, "copy", "--store", source, "--to", cache, path)
    assert path in project.run(nix, "path-info", "--store", cache, path)
    other = f"{project.directory}/second"
    project.run(nix, "copy", "--from", cache, "--to", other, path)
    for name in ("deep/one.txt", "large.txt"):
        assert (
            project.read(f"second{path}/{name}").popitem()[1]
            == (project.read(f"words/{name}").popitem()[1])
        )
    for directory, _, _ in os.walk(project.directory):
        os.chmod(directory, 0o755)


def test_gradle(project: Project, guarded: Server) -> None:
    gradle = program("gradle")
    project.put(
        "settings.gradle",
        "rootProject.name = 'words'\nbuildCache {\n  local { enabled = false }\n"
        f"  remote(HttpBuildCache) {{ url = '{guarded.place()}/gradle/'; push = true\n"
        f"    credentials {{ username = 'x'; password = '{guarded.writing}' }}\n"
        "    if (it.hasProperty('allowInsecureProtocol')) { allowInsecureProtocol = true } }\n}\n",
    )
    project.put(
        "build.gradle",
        "task words {\n  inputs.property('n', 3)\n  outputs.file(\"$buildDir/words.txt\")\n"
        "  outputs.cacheIf { true }\n  doLast { file(\"$buildDir/words.txt\").text = 'word' }\n}\n",
    )

    def build() -> str:
        project.clean("build", ".gradle")
        options = ("--no-daemon", "--build-cache", "--console=plain")
        said = project.run(gradle, *options, "words", GRADLE_USER_HOME=f"{project.directory}/home")
        assert project.read("build/words.txt") == {"build/words.txt": b"word"}
        return said

    assert "FROM-CACHE" not in build()
    assert ":words FROM-CACHE" in build()


def test_curl(project: Project, server: Server) -> None:
    curl = program("curl")
    data = bytes(range(256)) * 8000
    (project.directory / "large").write_bytes(data)
    url = f"{server.place()}/some/large"
    quiet = (curl, "-sS", "--fail")
    project.run(*quiet, "-T", "large", url)
    project.run(*quiet, "-T", "large", "-H", "Transfer-Encoding: chunked", f"{url}.2")
    project.run(*quiet, url, "-o", "first")
    project.run(*quiet, "-r", "0-999999", f"{url}.2", "-o", "second")
    project.run(*quiet, "-C", "1000000", f"{url}.2", "-o", "rest")
    read = project.read("first", "second", "rest")
    assert read["first"] == data
    assert read["second"] + read["rest"] == data
    assert project.run(curl, "-s", "-X", "DELETE", "-w", "%{http_code}", url) == "204"
    assert project.run(curl, "-s", "-o", "none", "-w", "%{http_code}", url) == "404"


def test_rclone(project: Project, server: Server) -> None:
    rclone = program("rclone")
    project.put("source/one.txt", "one\n")
    project.put("source/deep/a b+c%41.txt", "two\n")
    project.put("source/deep/er/large", "x" * 1_000_000)
    options = ("--config", "/dev/null", "--webdav-url", f"{server.place()}/dav")

    def run(*command: str) -> str:
        return project.run(rclone, *options, *command)

    run("copy", "source", ":webdav:there")
    run("check", "--download", "source", ":webdav:there")
    run("moveto", ":webdav:there/deep", ":webdav:elsewhere")
    run("copy", ":webdav:elsewhere", "back")
    assert project.read("back/**/*.txt") == {"back/a b+c%41.txt": b"two\n"}
    run("mkdir", ":webdav:empty")
    assert run("lsf", ":webdav:").split() == ["elsewhere/", "empty/", "there/"]
    run("purge", ":webdav:there")
    run("rmdir", ":webdav:empty")
    assert run("lsf", "-R", "--files-only", ":webdav:").splitlines() == [
        "elsewhere/a b+c%41.txt",
        "elsewhere/er/large",
    ]
