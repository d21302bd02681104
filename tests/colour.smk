# The whole workflow, and the rule that trains tests/colour_method.py's artefact.
include: "../Snakefile"


rule train_colour:
    input:
        f"results/{config['run']}/samples/real/heldout/0000.zip",
    output:
        f"results/{config['run']}/train/colour.safetensors",
    shell:
        "python -m tests.colour_method {input} {output}"
