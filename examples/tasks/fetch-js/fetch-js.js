// Makes one HTTP request through wasi:http, and prints status, length and SHA-256 of what came back.
//
//   fetch-js [--post] URL      --post sends stdin as the body of a POST
//
// The body is never held whole, and nobody follows a redirect: its `location` is printed. examples/tasks/fetch is the same in Rust.
//
// Exit: 0 answered, 1 denied, unreachable or broken off, 64 wrong arguments.
//
// QuickJS has neither TextDecoder nor crypto: text is read byte by byte, and SHA-256 is written out below.

import { getArguments } from 'wasi:cli/environment@0.2.12';
import { exitWithCode } from 'wasi:cli/exit@0.2.12';
import { getStderr } from 'wasi:cli/stderr@0.2.12';
import { getStdin } from 'wasi:cli/stdin@0.2.12';
import { getStdout } from 'wasi:cli/stdout@0.2.12';
import { handle } from 'wasi:http/outgoing-handler@0.2.12';
import { Fields, OutgoingBody, OutgoingRequest } from 'wasi:http/types@0.2.12';

const READ_BYTES = 64 * 1024;
// WASI's limit for one blocking write.
const WRITE_BYTES = 4096;

const EXIT_FAILED = 1;
const EXIT_USAGE = 64;

class Failure extends Error {
  constructor(message, code = EXIT_FAILED) {
    super(message);
    this.code = code;
  }
}

export const run = {
  run() {
    try {
      write(getStdout(), fetchOne(getArguments().slice(1)));
    } catch (error) {
      if (!(error instanceof Failure)) throw error;
      write(getStderr(), `fetch-js: ${error.message}\n`);
      exitWithCode(error.code);
    }
  },
};

function fetchOne(args) {
  const post = args[0] === '--post';
  const url = args[post ? 1 : 0];
  if (url === undefined || args.length > (post ? 2 : 1)) throw new Failure('usage: fetch-js [--post] URL', EXIT_USAGE);
  const response = exchange(post ? 'POST' : 'GET', parse(url), post ? getStdin() : null);
  const { bytes, sha256 } = digest(response);
  const location = response.headers().get('location').map((value) => `location ${text(value)}\n`);
  return `status ${response.status()}\n${location.join('')}bytes ${bytes}\nsha256 ${sha256}\n`;
}

// A URL in the parts that wasi:http wants.
function parse(url) {
  const parts = /^(https?):\/\/([^/?#]*)([^#]*)/.exec(url);
  if (parts === null) throw new Failure(`"${url}" begins with neither https:// nor http://`, EXIT_USAGE);
  const [, scheme, authority, path] = parts;
  return { scheme: { tag: scheme === 'https' ? 'HTTPS' : 'HTTP' }, authority, path, origin: `${scheme}://${authority}` };
}

function exchange(method, url, input) {
  const request = new OutgoingRequest(new Fields());
  request.setMethod({ tag: method.toLowerCase() });
  request.setScheme(url.scheme);
  request.setAuthority(url.authority);
  request.setPathWithQuery(url.path);
  const body = input === null ? null : request.body();
  try {
    const pending = handle(request, undefined);
    if (body !== null) upload(body, input);
    return answer(pending);
  } catch (error) {
    // Anything else is a mistake in this file.
    if (error.payload === undefined) throw error;
    throw new Failure(told(method, url.origin, error.payload));
  }
}

function upload(body, input) {
  const stream = body.write();
  try {
    for (let chunk = read(input); chunk !== null; chunk = read(input)) writeAll(stream, chunk);
  } catch {
    throw new Failure('the request was not sent whole');
  }
  dispose(stream);
  OutgoingBody.finish(body, undefined);
}

function answer(pending) {
  for (;;) {
    const got = pending.get();
    if (got !== null) return unwrap(unwrap(got));
    const ready = pending.subscribe();
    ready.block();
    dispose(ready);
  }
}

// Lets the host forget it, now: the collector of garbage may come to a parent before its child, which the host does not allow.
function dispose(resource) {
  resource[Symbol.dispose]();
}

// A result inside another is given as it is, not thrown.
function unwrap(result) {
  if (result.tag === 'ok') return result.val;
  throw Object.assign(new Error('an error of wasi:http'), { payload: result.val });
}

function digest(response) {
  const body = response.consume();
  const stream = body.stream();
  const hash = new Sha256();
  let bytes = 0;
  try {
    for (let chunk = read(stream); chunk !== null; chunk = read(stream)) {
      hash.update(chunk);
      bytes += chunk.length;
    }
  } catch {
    throw new Failure(`the answer broke off after ${bytes} bytes`);
  }
  dispose(stream);
  dispose(body);
  return { bytes, sha256: hash.hex() };
}

// What an error code means to whoever runs the task.
function told(method, origin, code) {
  const name = code?.tag ?? String(code);
  if (/denied/i.test(name)) return `${method} ${origin} is not granted; grant it with --http '${method} ${origin}/'`;
  if (/certificate/i.test(name)) return `${origin} has no certificate that the host trusts for it`;
  return `${method} ${origin}: ${name}`;
}

// The next bytes of the stream, or null at its end.
function read(stream) {
  try {
    return stream.blockingRead(READ_BYTES);
  } catch (error) {
    if (error.payload?.tag === 'closed') return null;
    throw error;
  }
}

function writeAll(stream, bytes) {
  for (let start = 0; start < bytes.length; start += WRITE_BYTES) {
    stream.blockingWriteAndFlush(bytes.slice(start, start + WRITE_BYTES));
  }
}

function write(stream, words) {
  // Everything printed is ASCII but for what the arguments held.
  const bytes = Uint8Array.from(words, (sign) => (sign < '\x80' ? sign.charCodeAt(0) : 0x3f));
  try {
    writeAll(stream, bytes);
  } catch {
    exitWithCode(EXIT_FAILED);
  }
}

// Printable text of a header's bytes.
function text(bytes) {
  return Array.from(bytes, (byte) => (byte > 0x20 && byte < 0x7f ? String.fromCharCode(byte) : '?')).join('');
}

// SHA-256 as FIPS 180-4 has it, over bytes that come in pieces.
class Sha256 {
  constructor() {
    this.state = Uint32Array.from(firstPrimes(8), (prime) => fraction(Math.sqrt(prime)));
    this.constants = Uint32Array.from(firstPrimes(64), (prime) => fraction(Math.cbrt(prime)));
    this.schedule = new Uint32Array(64);
    this.block = new Uint8Array(64);
    this.length = 0;
  }

  update(bytes) {
    for (const byte of bytes) this.push(byte);
  }

  push(byte) {
    this.block[this.length % 64] = byte;
    this.length += 1;
    if (this.length % 64 === 0) this.compress();
  }

  compress() {
    const { state, constants: k, schedule: w, block } = this;
    for (let i = 0; i < 16; i += 1) {
      w[i] = (block[4 * i] << 24) | (block[4 * i + 1] << 16) | (block[4 * i + 2] << 8) | block[4 * i + 3];
    }
    for (let i = 16; i < 64; i += 1) {
      const s0 = turn(w[i - 15], 7) ^ turn(w[i - 15], 18) ^ (w[i - 15] >>> 3);
      const s1 = turn(w[i - 2], 17) ^ turn(w[i - 2], 19) ^ (w[i - 2] >>> 10);
      w[i] = w[i - 16] + s0 + w[i - 7] + s1;
    }
    let [a, b, c, d, e, f, g, h] = state;
    for (let i = 0; i < 64; i += 1) {
      const t1 = h + (turn(e, 6) ^ turn(e, 11) ^ turn(e, 25)) + ((e & f) ^ (~e & g)) + k[i] + w[i];
      const t2 = (turn(a, 2) ^ turn(a, 13) ^ turn(a, 22)) + ((a & b) ^ (a & c) ^ (b & c));
      [h, g, f, e, d, c, b, a] = [g, f, e, (d + t1) | 0, c, b, a, (t1 + t2) | 0];
    }
    [a, b, c, d, e, f, g, h].forEach((word, i) => {
      state[i] += word;
    });
  }

  hex() {
    const bits = this.length * 8;
    this.push(0x80);
    while (this.length % 64 !== 56) this.push(0);
    for (const word of [Math.floor(bits / 2 ** 32), bits >>> 0]) {
      for (const shift of [24, 16, 8, 0]) this.push((word >>> shift) & 0xff);
    }
    return Array.from(this.state, (word) => word.toString(16).padStart(8, '0')).join('');
  }
}

function turn(word, by) {
  return (word >>> by) | (word << (32 - by));
}

// The first 32 bits of the fraction.
function fraction(number) {
  return Math.floor((number - Math.floor(number)) * 2 ** 32);
}

function firstPrimes(count) {
  const primes = [];
  for (let number = 2; primes.length < count; number += 1) {
    if (primes.every((prime) => number % prime !== 0)) primes.push(number);
  }
  return primes;
}
