"""What is wrong with the data of a store: copies, labels, outliers, and what they do to the number."""

from probe.audit.audit import audit
from probe.audit.label_file import Written, check_place, label_file, slug
from probe.audit.material import AuditJob
from probe.audit.record import KINDS, Audit, NotKeptError, audit_path, read

__all__ = [
    "KINDS",
    "Audit",
    "AuditJob",
    "NotKeptError",
    "Written",
    "audit",
    "audit_path",
    "check_place",
    "label_file",
    "read",
    "slug",
]
