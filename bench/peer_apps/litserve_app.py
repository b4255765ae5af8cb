"""LitServe as its pages show it: `python litserve_app.py PORT`."""

import sys
from typing import Any

import litserve
from network import Network


class Api(litserve.LitAPI):
    def setup(self, device: str) -> None:
        self.network = Network()

    def decode_request(self, request) -> Any:
        return request.get("features", request)

    def predict(self, given: Any) -> dict[str, Any]:
        if self.network.is_matrix:
            return self.network.rows([given])
        return self.network.record(given)

    def encode_response(self, output: dict[str, Any]) -> dict[str, Any]:
        return output


if __name__ == "__main__":
    server = litserve.LitServer(Api(), accelerator="cpu", track_requests=False)
    server.run(
        host="127.0.0.1",
        port=int(sys.argv[1]),
        generate_client_file=False,
        log_level="warning",
        access_log=False,
    )
