"""The protocol's messages, made from `open_inference.binpb`, which `make grpc` writes from `open_inference.proto`.

In a pool of their own: Triton's client has messages of the same names, and a process may hold both.
"""

from importlib import resources

from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

_FILES = descriptor_pb2.FileDescriptorSet.FromString(
    resources.files(__package__).joinpath("open_inference.binpb").read_bytes()
)
_POOL = descriptor_pool.DescriptorPool()
for _file in _FILES.file:
    _POOL.Add(_file)

for _file in _FILES.file:
    for _message in _file.message_type:
        globals()[_message.name] = message_factory.GetMessageClass(
            _POOL.FindMessageTypeByName(f"{_file.package}.{_message.name}")
        )
