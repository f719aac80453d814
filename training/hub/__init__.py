"""Publishing on the Hugging Face Hub: what goes there, what stays here, and what is said when it fails."""

from .push import PushReport, push_model, push_space
from .push_data import push_data
from .upload_plan import LeftOut, PlannedFile, UploadPlan, plan_upload

__all__ = [
    "LeftOut",
    "PlannedFile",
    "PushReport",
    "UploadPlan",
    "plan_upload",
    "push_data",
    "push_model",
    "push_space",
]
