"""What can go wrong: the status codes that gRPC, TensorFlow and TF Serving share, and their places in HTTP."""

import grpc

CODE_NUMBERS = {code.name: code.value[0] for code in grpc.StatusCode}
CODE_NAMES = {number: name for name, number in CODE_NUMBERS.items()}

# TF Serving's http_server.cc, ToHTTPStatusCode; any other code is 500.
HTTP_STATUS = {
    "INVALID_ARGUMENT": 400,
    "FAILED_PRECONDITION": 400,
    "OUT_OF_RANGE": 400,
    "NOT_FOUND": 404,
    "ABORTED": 409,
    "RESOURCE_EXHAUSTED": 429,
    "UNIMPLEMENTED": 501,
    "UNAVAILABLE": 503,
    "DEADLINE_EXCEEDED": 504,
}


class ServingError(Exception):
    """An answer other than OK. code: name of a `grpc.StatusCode`. message: for the caller, made one line."""

    def __init__(self, code, message):
        self.code, self.message = code, " ".join(str(message).split())
        super().__init__(self.message)


def invalid(message):
    """The error of a request that can never succeed."""
    return ServingError("INVALID_ARGUMENT", message)
