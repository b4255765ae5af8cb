"""The control store: everything the controller must not forget, in one SQL database."""

from steadynet.control.store.engine import Store
from steadynet.control.store.lease import Lease
from steadynet.control.store.observations import LabelledRow
from steadynet.control.store.outbox import Command, Delivery, DeliveryState, StoredAlert
from steadynet.control.store.place import remember_store
from steadynet.control.store.retention import Retention
from steadynet.control.store.transaction import Transaction

__all__ = [
    "Command",
    "Delivery",
    "DeliveryState",
    "LabelledRow",
    "Lease",
    "Retention",
    "Store",
    "StoredAlert",
    "Transaction",
    "remember_store",
]
