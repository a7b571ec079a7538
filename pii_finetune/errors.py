"""What can go wrong, by who can mend it.

A `UserError` carries a complete message (what was given, why it is wrong, what to do) and is shown without a traceback;
the command line ends with exit code 2. Anything else is a failure of the run: exit code 1.
"""


class PiiFinetuneError(Exception):
    """Base of every error this package raises on purpose."""


class UserError(PiiFinetuneError, ValueError):
    """Something the user gave cannot be used as it is."""


class BadConfigError(UserError):
    """A setting is unknown or has a value it cannot have."""


class BadWorkbookError(UserError):
    """The workbook, or rows of it, cannot be trained on."""


class SourceOutOfReachError(BadWorkbookError):
    """The dataset could not be read this time, which says nothing about its rows."""


class OutputOutOfReachError(UserError):
    """The place where answers go cannot be written or listed this time; a rerun goes on."""


class WorkersLostError(PiiFinetuneError, RuntimeError):
    """Workers of Ray died again and again, or the cluster went away; what was finished is kept, and a rerun goes on."""


class MissingDeviceError(UserError):
    """The profile needs hardware that this machine does not have."""


class MissingModelError(UserError):
    """A base model, adapter or registered model is not where it was said to be."""


class BadCalibrationError(UserError):
    """The numbers that turn a model's margins into probabilities are damaged."""


class TamperedModelError(UserError):
    """A model's folder is not what its manifest, or its signature, says it is."""


class OtherCodeError(UserError):
    """Machines that are to train together have not the same code."""


class MissingServerError(UserError):
    """The MLflow server that was named does not answer."""


class PromotionRefusedError(UserError):
    """A version cannot be put into production as things are: nothing, or nothing but repairs, was changed."""


class PromotionLockedError(PromotionRefusedError):
    """Another promotion holds the lock for too long, or the lock cannot be had or was lost."""


class TrainingDivergedError(PiiFinetuneError, RuntimeError):
    """The loss or a gradient became NaN or infinite; the adapter is worthless and is not kept."""


class TrainingStoppedError(PiiFinetuneError, RuntimeError):
    """A training was asked to stop, and did, after a checkpoint where there was time for one."""


class TrainingPrunedError(TrainingStoppedError):
    """A trial of a sweep that others are ahead of was ended before its last step."""


class LostProcessError(PiiFinetuneError, RuntimeError):
    """The processes that train together died, more often than they are started again."""


class OutOfMemoryError(PiiFinetuneError, RuntimeError):
    """Memory does not suffice, and smaller batches did not help or were not to be had."""


class DiskFullError(PiiFinetuneError, OSError):
    """Nothing more can be written where results go."""


class OutputLockedError(UserError):
    """Another process trains in the same folder."""


class RunInProgressError(UserError):
    """The same run, of the same data and settings, is going on in another process."""


class TrackingUnreachableError(PiiFinetuneError, RuntimeError):
    """MLflow stayed away for longer than a run waits for it; what was made is kept, and a rerun goes on."""


class DamagedResultError(PiiFinetuneError, RuntimeError):
    """What was kept of a finished stage is missing or is not what was kept."""
