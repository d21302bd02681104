"""Print requirements.lock: every package of this environment, pinned, those of CUDA for the machines that have wheels."""

from importlib.metadata import distributions

CUDA = ("nvidia-", "cuda-", "triton")
LEFT_OUT = {"pip", "wheel", "hcma-harness"}


def main() -> None:
    print(
        "# Every package of the environment, pinned; written by `make lock` from pyproject.toml. Python 3.11 to 3.13."
    )
    found = {d.metadata["Name"]: d.version for d in distributions()}
    for name in sorted(set(found) - LEFT_OUT, key=str.lower):
        marker = ' ; sys_platform == "linux" and platform_machine == "x86_64"' if name.startswith(CUDA) else ""
        print(f"{name}=={found[name]}{marker}")


if __name__ == "__main__":
    main()
