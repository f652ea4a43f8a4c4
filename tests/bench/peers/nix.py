"""nix: a derivation for each action, in its sandbox, in a store of its own."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import ClassVar, Final

from store.store import remove_tree
from tests.bench.model import Action, Workload, render
from tests.bench.peers.base import Peer, Setting

CONFIG: Final = """sandbox = true
sandbox-paths = /bin /usr /lib /lib64 /etc/alternatives
build-users-group =
substituters =
max-jobs = {jobs}
cores = 1
"""

HEAD: Final = """let
  step = name: files: text: derivation {
    inherit name files text;
    passAsFile = [ "files" "text" ];
    system = builtins.currentSystem;
    builder = "/bin/sh";
    args = [ "-c" ". $textPath" ];
    PATH = "/usr/bin:/bin";
    LC_ALL = "C";
  };
"""


class Nix(Peer):
    """nix. Its store is its cache, so that `clean` takes only the link to the result away."""

    name: ClassVar = "nix"
    programs: ClassVar = ("nix-build", "nix-store")
    note: ClassVar = "sandbox; its store is the cache"
    cache: ClassVar = True
    slow: ClassVar = True
    most: ClassVar = 2000

    @classmethod
    def missing(cls, setting: Setting) -> str | None:
        found = super().missing(setting)
        return found or (None if Path("/bin/sh").exists() else "no /bin/sh")

    def cannot(self, workload: Workload) -> str | None:
        if not workload.plain:
            return "its actions leave more than they name"
        return None if len(workload.ends) == 1 else "more than one result"

    @property
    def beside(self) -> Path:
        """The directory of its store."""
        return self.directory.with_name(f"{self.directory.name}.root")

    def write_build(self) -> None:
        (self.beside / "conf").mkdir(parents=True)
        text = CONFIG.format(jobs=self.setting.jobs)
        (self.beside / "conf" / "nix.conf").write_text(text)
        makers = self.workload.makers
        known = {path: f"s{number}" for number, path in enumerate(makers)}
        tops = {path.partition("/")[0] for path in self.workload.sources}
        known |= {top: f"./{top}" for top in tops}
        lines = [self._step(action, known) for action in self.workload.actions]
        text = HEAD + "\n".join(lines) + f"\nin {known[self.workload.ends[0]]}\n"
        (self.directory / "default.nix").write_text(text)

    def _step(self, action: Action, known: dict[str, str]) -> str:
        def place(path: str) -> str:
            return f"${{{known.get(path, f'./{path}')}}}"

        sources = action.inputs and all(path in self.workload.sources for path in action.inputs)
        files, inputs = "", None
        if action.glob and sources:
            top, _, rest = action.glob.partition("/")
            inputs = f"{place(top)}/{rest}"
        elif action.glob:
            files = " ".join(place(path) for path in action.inputs)
            inputs = "$(cat $filesPath)"
        script = render(action, place, inputs, "$out", quote=_quoted)
        name = action.output.replace("/", "-")
        return f'  {known[action.output]} = step "{name}" "{files}" "{script}";'

    def make_directories(self) -> None:
        """Its outputs lie in its store."""

    def command(self) -> Sequence[str]:
        return (self.program(), "--no-build-output", "-o", "result", "default.nix")

    def env(self) -> dict[str, str]:
        root = self.beside
        return {
            **super().env(),
            "NIX_STORE_DIR": f"{root}/store",
            "NIX_STATE_DIR": f"{root}/state",
            "NIX_LOG_DIR": f"{root}/log",
            "NIX_LOCALSTATE_DIR": f"{root}/var",
            "NIX_CONF_DIR": f"{root}/conf",
        }

    def forget(self) -> None:
        self.remove("result")
        for name in ("store", "state", "log", "var"):
            if (self.beside / name).exists():
                self.put_away(self.beside / name)

    def clean(self) -> None:
        self.remove("result")

    def result(self, end: str) -> Path:
        return self.directory / "result"

    def stop(self) -> None:
        if self.beside.exists():
            remove_tree(self.beside)


def _quoted(text: str) -> str:
    return text.replace("\\", "\\\\").replace('"', '\\"').replace("${", "\\${")
