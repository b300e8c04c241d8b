// TF Serving's REST API, and nothing beyond it.

// Rows per request: a server that batches refuses more than its max_batch_size (batching.txt).
const MOST_ROWS = 32;
const PAUSES_SECONDS = [0.5, 1, 2, 4];
const TIMEOUT_SECONDS = 60;

/** What to tell the reader. kind: "away", "busy", "absent" (no such model, or not yet) or "refused". */
export class Problem extends Error {
  constructor(kind, message) {
    super(message);
    this.kind = kind;
  }
}

export class Endpoint {
  /** onBusy(seconds): called before each pause of that length while the endpoint is busy. */
  constructor(url, onBusy) {
    this.url = url.replace(/\/+$/, "");
    this.onBusy = onBusy;
  }

  /** What a model can do: {name, version, hasLabels, latentDim, canReconstruct, resolution}. resolution: of the pictures that its
      encoder takes, null without one. */
  async describe(name, signal) {
    const path = `/v1/models/${encodeURIComponent(name)}`;
    const [status, metadata] = await Promise.all([this.#call(path, null, signal), this.#call(`${path}/metadata`, null, signal)]);
    const versions = status.model_version_status.filter((row) => row.state === "AVAILABLE").map((row) => Number(row.version));
    const signatures = metadata.metadata?.signature_def?.signature_def ?? {};
    if (!signatures.sample || !signatures.decode) {
      throw new Problem("refused", `“${name}” was not published by tfvae: it has no “sample” and “decode”.`);
    }
    const side = (input) => Number(input.tensor_shape.dim[1].size);
    return {
      name,
      version: Math.max(...versions),
      hasLabels: "label" in signatures.sample.inputs,
      latentDim: side(signatures.decode.inputs.z),
      canReconstruct: "encode" in signatures && "reconstruct" in signatures,
      resolution: signatures.reconstruct ? side(signatures.reconstruct.inputs.image) : null,
    };
  }

  /** A signature's outputs, {output: rows}, or the rows alone where it has one; inputs: {input: rows}, any number of rows. */
  async predict(name, signature, inputs, signal) {
    const rows = Object.values(inputs)[0].length;
    const parts = [];
    for (let start = 0; start < rows; start += MOST_ROWS) {
      const part = Object.fromEntries(Object.entries(inputs).map(([key, value]) => [key, value.slice(start, start + MOST_ROWS)]));
      const body = JSON.stringify({ signature_name: signature, inputs: part });
      parts.push((await this.#call(`/v1/models/${encodeURIComponent(name)}:predict`, body, signal)).outputs);
    }
    return Array.isArray(parts[0]) ? parts.flat() : parts[0];
  }

  async #call(path, body, signal) {
    for (let tries = 0; ; tries++) {
      const [code, answer] = await this.#fetch(path, body, signal);
      if (code === 200) return answer;
      const message = String(answer?.error ?? "no reason given").slice(0, 300);
      if (code === 429 || code === 502 || code === 503) {
        if (tries === PAUSES_SECONDS.length) {
          throw new Problem("busy", `The endpoint is busy (${message}). Gave up after ${tries + 1} tries.`);
        }
        this.onBusy(PAUSES_SECONDS[tries]);
        await pause(PAUSES_SECONDS[tries], signal);
      } else if (code === 404 && answer?.error) {
        const name = decodeURIComponent(path.split(/[/:]/)[3]);
        throw new Problem("absent", `The endpoint has no model “${name}”, or has not loaded it yet (${message}).`);
      } else if (answer?.error) {
        throw new Problem("refused", `The endpoint refused the request (${code}: ${message}).`);
      } else {
        throw new Problem("away", `${this.url} answers, but not as TF Serving's REST API does (HTTP ${code}).`);
      }
    }
  }

  async #fetch(path, body, signal) {
    let answer;
    try {
      const limit = AbortSignal.timeout(TIMEOUT_SECONDS * 1000);
      // No content type of our own: TF Serving does not look at it, and a browser asks twice (CORS preflight) where it is JSON.
      const options = { signal: signal ? AbortSignal.any([signal, limit]) : limit, cache: "no-store" };
      answer = await fetch(this.url + path, body === null ? options : { ...options, method: "POST", body });
    } catch (error) {
      if (signal?.aborted) throw error;
      if (error.name === "TimeoutError") throw new Problem("busy", `The endpoint gave no answer within ${TIMEOUT_SECONDS} s.`);
      throw new Problem("away", `No answer from ${this.url}. Is the endpoint running, and does it allow requests from other ` +
        "pages (--rest_api_enable_cors_support)?");
    }
    try {
      return [answer.status, await answer.json()];
    } catch (error) {
      if (signal?.aborted) throw error;
      return [answer.status === 200 ? 0 : answer.status, null];
    }
  }
}

function pause(seconds, signal) {
  return new Promise((resolve, reject) => {
    const timer = setTimeout(resolve, seconds * 1000);
    signal?.addEventListener("abort", () => (clearTimeout(timer), reject(signal.reason)), { once: true });
  });
}
