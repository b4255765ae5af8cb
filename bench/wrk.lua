-- POST the lines of $BENCH_BODIES in turn to $BENCH_PATH; print what came of it as one JSON object.
local requests = {}
local at = 0

function init()
  local path = os.getenv("BENCH_PATH")
  wrk.method = "POST"
  wrk.headers["Content-Type"] = os.getenv("BENCH_TYPE") or "application/json"
  for line in io.lines(os.getenv("BENCH_BODIES")) do
    requests[#requests + 1] = wrk.format(nil, path, nil, line)
  end
end

function request()
  at = at % #requests + 1
  return requests[at]
end

function done(summary, latency)
  local errors = summary.errors
  io.write(string.format(
    '{"requests": %d, "seconds": %.6f, "failed": %d, "p50_ms": %.4f, "p99_ms": %.4f}\n',
    summary.requests, summary.duration / 1e6,
    errors.status + errors.connect + errors.read + errors.write + errors.timeout,
    latency:percentile(50) / 1e3, latency:percentile(99) / 1e3))
end
