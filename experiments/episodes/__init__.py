"""Running a controller on its task: the one evaluator, seeds, calibration, the loop of a recovery, films."""
