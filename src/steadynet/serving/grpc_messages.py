"""The messages of `inference.GRPCInferenceService`, made of the descriptor in `_generated`.

They live in a descriptor pool of their own: clients of the protocol define messages of the same
names, and in the pool that all share, whichever is imported second could not be.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from google.protobuf.descriptor_pb2 import FileDescriptorSet
from google.protobuf.descriptor_pool import DescriptorPool
from google.protobuf.message_factory import GetMessageClass

SERVICE = "inference.GRPCInferenceService"
DESCRIPTOR = Path(__file__).parent / "_generated" / "open_inference_grpc.binpb"

Message = Any
"""protobuf makes its classes when it runs, so no type checker can know their fields."""


def _make_pool() -> DescriptorPool:
    pool = DescriptorPool()
    for file in FileDescriptorSet.FromString(DESCRIPTOR.read_bytes()).file:
        pool.Add(file)
    return pool


POOL = _make_pool()
METHODS: dict[str, tuple[Message, Message]] = {
    method.name: (GetMessageClass(method.input_type), GetMessageClass(method.output_type))
    for method in POOL.FindServiceByName(SERVICE).methods
}
"""RPC → its request's and its response's class."""

ModelInferRequest, ModelInferResponse = METHODS["ModelInfer"]
ModelMetadataResponse = METHODS["ModelMetadata"][1]
ModelReadyResponse = METHODS["ModelReady"][1]
RepositoryIndexResponse = METHODS["RepositoryIndex"][1]
ServerLiveResponse = METHODS["ServerLive"][1]
ServerMetadataResponse = METHODS["ServerMetadata"][1]
ServerReadyResponse = METHODS["ServerReady"][1]
