"""A gRPC server with reflection, for the tests of imported tools. Prints its port, then serves until its standard
input ends. It must never listen on anything but loopback.

usage: server.py
"""

import sys
import threading
import time
from concurrent import futures
from pathlib import Path

import grpc
from google.protobuf import duration_pb2
from google.rpc import error_details_pb2, status_pb2
from grpc_reflection.v1alpha import reflection

sys.path.insert(0, str(Path(__file__).parent))
messages, services = grpc.protos_and_services("library.proto")

TRAILER = "grpc-status-details-bin"


class Library(services.LibraryServicer):
    def __init__(self):
        self.cancelled = 0
        self.lock = threading.Lock()

    def GetBook(self, request, context):
        if request.isbn <= 0:
            context.abort(grpc.StatusCode.NOT_FOUND, f"there is no book {request.isbn}")
        book = messages.Book(isbn=request.isbn, title="Sand", authors=["A. Author", "B. Writer"])
        book.publish_time.FromJsonString("2020-02-29T12:00:00Z")
        return book

    def Copy(self, request, context):
        return request

    def Fail(self, request, context):
        code = next(code for code in grpc.StatusCode if code.value[0] == request.code)
        trailers = []
        if request.retry_after_ms:
            delay = duration_pb2.Duration()
            delay.FromMilliseconds(request.retry_after_ms)
            status = status_pb2.Status(code=request.code, message=request.message)
            status.details.add().Pack(error_details_pb2.RetryInfo(retry_delay=delay))
            trailers.append((TRAILER, status.SerializeToString()))
        if request.pushback:
            trailers.append(("grpc-retry-pushback-ms", request.pushback))
        context.set_trailing_metadata(trailers)
        context.abort(code, request.message)

    def Wait(self, request, context):
        remaining = context.time_remaining()
        end = time.monotonic() + request.milliseconds / 1000
        while time.monotonic() < end:
            if not context.is_active():
                with self.lock:
                    self.cancelled += 1
                break
            time.sleep(0.01)
        return messages.WaitResponse(remaining_ms=int((remaining or 0) * 1000))

    def Fill(self, request, context):
        return messages.FillResponse(content=b"x" * request.size)

    def Inspect(self, request, context):
        texts = {name: value for name, value in context.invocation_metadata() if isinstance(value, str)}
        with self.lock:
            return messages.InspectResponse(metadata=texts, cancelled=self.cancelled)

    def WatchBooks(self, request, context):
        yield self.GetBook(request, context)


def main():
    server = grpc.server(futures.ThreadPoolExecutor(max_workers=16), options=[("grpc.so_reuseport", 0)])
    services.add_LibraryServicer_to_server(Library(), server)
    names = [messages.DESCRIPTOR.services_by_name["Library"].full_name, reflection.SERVICE_NAME]
    reflection.enable_server_reflection(names, server)
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    print(port, flush=True)
    sys.stdin.read()
    server.stop(0)


if __name__ == "__main__":
    main()
