"""Checks of the inputs: what would make a model worthless without an error, told before training.

One list of findings, gathered by `InputTally`: from a sample of the training rows at the start of a
run and in a dry run (`look_at_inputs`), from every row in the validator.
"""

from data_pipelines.inputs.checks import InputChecks, InputTally
from data_pipelines.inputs.dense_columns import DenseColumn
from data_pipelines.inputs.sample import look_at_inputs

__all__ = ["DenseColumn", "InputChecks", "InputTally", "look_at_inputs"]
