"""What the files of a run directory and of a result are called; the one list of them."""

# weights
ENCODER_NAME = "encoder.safetensors"
ALPHA_NAME = "alpha.safetensors"  # encoder and alpha decoder
MODEL_NAME, BEST_NAME = "model.safetensors", "best.safetensors"  # of fine-tuning: last, and best
ENERGY_NAME = "energy.safetensors"
WEIGHTS = (ENCODER_NAME, ALPHA_NAME, MODEL_NAME, BEST_NAME, ENERGY_NAME)
# what training leaves beside them
CONFIG_NAME = "config.yaml"  # every key, resolved
ENVIRONMENT_NAME = "env.json"  # versions, machine, command
METRICS_NAME = "metrics.jsonl"
BROKEN_NAME = "broken.txt"  # images that could not be read, and why
PREFLIGHT_NAME = "preflight.txt"  # what is wrong with the labels
SCORES_NAME = "scores.json"
CHECKPOINTS, BANKS, SNAPSHOTS = "checkpoints", "banks", "snapshots"
PREDICTED = "predicted"  # pictures of what a masked method predicts
TIMM, TENSORBOARD = "timm", "tensorboard"
# what genseg generate and genseg predict leave
INSTANCES_NAME, PREDICTIONS_NAME = "instances.json", "predictions.json"
SETTINGS_NAME = "settings.json"  # what the result was made with
ROWS_NAME = "rows.jsonl"  # of genseg predict; genseg generate has a file for each part
PARTS, ALPHAS, CUTOUTS, MASKS = "parts", "alphas", "cutouts", "masks"
TILES = "tiles"  # in parts/, of images that are not done yet: what their tiles have shown
# what genseg compare leaves
COMPARED_NAME, PLOT_NAME, CELL_NAME = "compare.json", "plot.svg", "cell.json"
TABLE_NAME = "table.txt"
STUDY_NAME = "study.json"  # of genseg study, with plot.svg and table.txt
REPRESENTATION_NAME = "representation.json"  # of genseg evaluate representation
# pages
REPORT_NAME, INDEX_NAME = "report.html", "index.html"
