"""Publishing on the Hugging Face Hub: what goes there, what stays here, and what is said when it fails."""

from .push import PushReport, push_model, push_space
from .upload_plan import LeftOut, PlannedFile, UploadPlan, plan_upload

__all__ = ["LeftOut", "PlannedFile", "PushReport", "UploadPlan", "plan_upload", "push_model", "push_space"]
