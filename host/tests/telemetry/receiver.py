"""A receiver of OTLP over HTTP that reads with OpenTelemetry's own protobuf classes: opentelemetry-proto (PyPI).

Usage: receiver.py. Prints the port that it listens at on 127.0.0.1, then one line of JSON for each request that it took. What the
protocol does not have, a field above all, is answered with 400 and printed as {"refused": why}.
Needs: pip install opentelemetry-proto
"""

import base64
import http.server
import json
import sys

from google.protobuf import json_format
from opentelemetry.proto.collector.metrics.v1 import metrics_service_pb2 as metrics
from opentelemetry.proto.collector.trace.v1 import trace_service_pb2 as trace


def identifiers(value):
    """OTLP's JSON has these in hex where protobuf's has base64; all else is protobuf's."""
    if isinstance(value, dict):
        return {
            key: base64.b64encode(bytes.fromhex(item)).decode()
            if key in ("traceId", "spanId", "parentSpanId")
            else identifiers(item)
            for key, item in value.items()
        }
    if isinstance(value, list):
        return [identifiers(item) for item in value]
    return value


def text(attributes):
    return {each.key: getattr(each.value, each.value.WhichOneof("value")) for each in attributes}


def read_traces(body):
    request = json_format.ParseDict(identifiers(body), trace.ExportTraceServiceRequest())
    told = []
    for resource in request.resource_spans:
        assert text(resource.resource.attributes)["service.name"] == "strongroom"
        for scope in resource.scope_spans:
            for span in scope.spans:
                assert len(span.trace_id) == 16 and len(span.span_id) == 8 and span.start_time_unix_nano <= span.end_time_unix_nano
                told.append({
                    "trace": span.trace_id.hex(),
                    "span": span.span_id.hex(),
                    "parent": span.parent_span_id.hex(),
                    "name": span.name,
                    "attributes": text(span.attributes),
                })
    return {"spans": told}, trace.ExportTraceServiceResponse()


def read_metrics(body):
    request = json_format.ParseDict(body, metrics.ExportMetricsServiceRequest())
    told = {}
    for resource in request.resource_metrics:
        for scope in resource.scope_metrics:
            for metric in scope.metrics:
                kind = metric.WhichOneof("data")
                points = getattr(metric, kind).data_points
                for point in points:
                    if kind == "histogram":
                        assert sum(point.bucket_counts) == point.count and len(point.bucket_counts) == len(point.explicit_bounds) + 1
                    else:
                        assert point.WhichOneof("value") == ("as_double" if metric.unit == "s" else "as_int")
                told[metric.name] = [kind, len(points)]
    return {"metrics": told}, metrics.ExportMetricsServiceResponse()


class Receiver(http.server.BaseHTTPRequestHandler):
    def do_POST(self):
        body = self.rfile.read(int(self.headers["content-length"]))
        try:
            assert self.headers["content-type"] == "application/json"
            read = {"/v1/traces": read_traces, "/v1/metrics": read_metrics}[self.path]
            told, answer = read(json.loads(body))
            status = 200
        except Exception as refusal:
            told, answer, status = {"refused": repr(refusal)}, None, 400
        said = json_format.MessageToJson(answer).encode() if answer is not None else b""
        self.send_response(status)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(said)))
        self.end_headers()
        self.wfile.write(said)
        print(json.dumps(told), flush=True)

    def log_message(self, *_):
        pass


server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Receiver)
print(server.server_address[1], flush=True)
sys.stdout.flush()
server.serve_forever()
