"""Where every file of a run is.

Arguments of a path that are left out are Snakemake's wildcards: `samples()` is the pattern of which
`samples("hcma", "test", "0000")` is one file.
"""

from pathlib import Path


class TrainedPaths:
    """Files below train/ of a run, or of a variant below train/NAME/; `variant` is "" or "/NAME"."""

    def __init__(self, folder: str, variant: str) -> None:
        self.folder = f"{folder}/train{variant}"
        self.config = f"{self.folder}/config.json"
        self.alignment = f"{self.folder}/alignment.safetensors"
        self.curves = f"{self.folder}/curves.csv"
        self.eta = f"{self.folder}/eta.json"
        self.calibration = f"{self.folder}/calibration.json"
        self.noise = f"{self.folder}/noise"

    def candidate(self, number: int) -> str:
        """A multiple of the calibrated eta."""
        return f"{self.folder}/eta/{number}.json"

    def latents(self, split: str = "{split}", part: str = "{part}") -> str:
        return f"{self.folder}/latents/{split}/{part}.safetensors"


class Paths:
    """Every file of a run, below `results/{run}`."""

    def __init__(self, folder: str) -> None:
        self.folder = folder
        self.config = f"{folder}/config.json"
        self.provenance = f"{folder}/provenance.json"
        self.lineage = f"{folder}/work/lineage.json"
        self.report = f"{folder}/report.html"
        self.coco = f"{folder}/coco"
        self.left_out = f"{folder}/layouts/report.json"
        self.weights = f"{folder}/weights"
        self.pilot = f"{folder}/pilot.json"
        self.estimate = f"{folder}/estimate"
        self.bundle = f"{folder}/{Path(folder).name}.zip"

    def layouts(self, split: str = "{split}") -> str:
        return f"{self.folder}/layouts/{split}.jsonl"

    def layout_shard(self, split: str = "{split}", shard: str = "{shard}") -> str:
        return f"{self.folder}/layouts/{split}/{shard}.jsonl"

    def regions(self, split: str = "{split}", shard: str = "{shard}") -> str:
        return f"{self.folder}/regions/{split}/{shard}.parquet"

    def detected_regions(self, row: str = "{method}", split: str = "{split}", shard: str = "{shard}") -> str:
        """The same regions where a detector finds their objects in the row's images."""
        return f"{self.folder}/regions/{row}/{split}/{shard}.parquet"

    def spec(self, row: str = "{method}") -> str:
        """All that decides a row's images beside the layouts."""
        return f"{self.folder}/methods/{row}.json"

    def samples(self, row: str = "{method}", split: str = "{split}", shard: str = "{shard}") -> str:
        return f"{self.folder}/samples/{row}/{split}/{shard}.zip"

    def crops(self, row: str = "{method}", split: str = "{split}", shard: str = "{shard}") -> str:
        return f"{self.folder}/crops/{row}/{split}/{shard}.zip"

    def features(self, row: str = "{method}", split: str = "{split}", shard: str = "{shard}") -> str:
        return f"{self.folder}/features/{row}/{split}/{shard}.npz"

    def summary(self, row: str = "{method}", split: str = "{split}") -> str:
        """Moments of a row's features, a sample of them, and sums over that sample's pairs."""
        return f"{self.folder}/summaries/{row}/{split}.npz"

    def metrics(self, row: str = "{method}", split: str = "{split}") -> str:
        return f"{self.folder}/metrics/{row}/{split}.json"

    def scores(self, row: str = "{method}", split: str = "{split}") -> str:
        return f"{self.folder}/scores/{row}/{split}.parquet"

    def across(self, row: str = "{method}", split: str = "{split}") -> str:
        """Sums over the pairs of a row's samples and those of the photos, for its metrics and its swaps."""
        return f"{self.folder}/across/{row}/{split}.npz"

    def swaps(self, row: str = "{method}") -> str:
        return f"{self.folder}/swaps/{row}.json"

    def train(self, variant: str = "{variant}") -> TrainedPaths:
        """What is trained, calibrated and chosen."""
        return TrainedPaths(self.folder, variant)

    def study_swaps(self, row: str = "{method}") -> str:
        """As `swaps`, of a reading of the study and the rows that it is compared with there."""
        return f"{self.folder}/study/swaps/{row}.json"

    def sizes(self, row: str = "{method}") -> str:
        return f"{self.folder}/sizes/{row}/test.csv"

    def strips(self, shard: str = "{shard}") -> str:
        return f"{self.folder}/report/strips/{shard}.json"

    def table(self, name: str, kind: str = "csv") -> str:
        return f"{self.folder}/tables/{name}.{kind}"

    def figure(self, name: str, kind: str = "png") -> str:
        return f"{self.folder}/figures/{name}.{kind}"

    def architecture(self, name: str = "{name}") -> str:
        return f"{self.folder}/architectures/{name}.json"

    def log(self, name: str) -> str:
        return f"{self.folder}/logs/{name}.log"

    def benchmark(self, name: str) -> str:
        return f"{self.folder}/benchmarks/{name}.jsonl"

    def work(self, name: str) -> str:
        """A folder for checkpoints. It lies outside the outputs, which Snakemake deletes when a job fails."""
        return f"{self.folder}/work/{name}"
