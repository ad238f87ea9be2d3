// Groups JSON lines: reads one JSON object per line from stdin, prints one object per group, in the order of the keys.
//
//   jsonl-group KEY [SUM]      counts the objects per value of KEY, and adds up the numbers in SUM
//
// KEY and SUM may be paths like "user.country". An object without KEY counts under null; one without SUM adds nothing.
//
// Exit: 0 done, 1 reading or writing failed, 2 a line is not a JSON object or has no number in SUM, 64 wrong arguments.
//
// QuickJS has no TextDecoder, and WASI's streams are bytes: both directions of UTF-8 are written out below.

import { getArguments } from 'wasi:cli/environment@0.2.12';
import { exitWithCode } from 'wasi:cli/exit@0.2.12';
import { getStderr } from 'wasi:cli/stderr@0.2.12';
import { getStdin } from 'wasi:cli/stdin@0.2.12';
import { getStdout } from 'wasi:cli/stdout@0.2.12';

const READ_BYTES = 64 * 1024;
// WASI's limit for one blocking write.
const WRITE_BYTES = 4096;
// Longest line, in bytes.
const MAX_LINE_BYTES = 1024 * 1024;
// Most groups: a key of unique values is a mistake, and must not eat the memory.
const MAX_GROUPS = 100_000;

const EXIT_FAILED = 1;
const EXIT_BAD_INPUT = 2;
const EXIT_USAGE = 64;

class Failure extends Error {
  constructor(message, code = EXIT_BAD_INPUT) {
    super(message);
    this.code = code;
  }
}

export const run = {
  run() {
    try {
      write(getStdout(), main(getArguments().slice(1)));
    } catch (error) {
      if (!(error instanceof Failure)) throw error;
      write(getStderr(), `jsonl-group: ${error.message}\n`);
      exitWithCode(error.code);
    }
  },
};

function main(args) {
  if (args.length < 1 || args.length > 2) throw new Failure('usage: jsonl-group KEY [SUM]', EXIT_USAGE);
  const [key, sum] = args.map((path) => path.split('.'));
  const groups = new Map();
  let number = 0;
  for (const line of linesOf(getStdin())) {
    number += 1;
    try {
      addLine(groups, line, key, sum);
    } catch (error) {
      if (!(error instanceof Failure)) throw error;
      throw new Failure(`line ${number}: ${error.message}`, error.code);
    }
  }
  // By code units, not by locale: the same everywhere.
  const sorted = [...groups].sort(([a], [b]) => (a < b ? -1 : 1));
  return sorted.map(([, group]) => JSON.stringify(group) + '\n').join('');
}

function addLine(groups, line, key, sum) {
  const text = decode(line);
  if (text.trim() === '') return;
  let object;
  try {
    object = JSON.parse(text);
  } catch (error) {
    throw new Failure(`not JSON: ${error.message}`);
  }
  if (object === null || typeof object !== 'object' || Array.isArray(object)) {
    throw new Failure('not a JSON object');
  }
  const value = at(object, key) ?? null;
  // 1 and "1" are two groups.
  const name = JSON.stringify(value);
  let group = groups.get(name);
  if (!group) {
    if (groups.size === MAX_GROUPS) throw new Failure(`more than ${MAX_GROUPS} groups`);
    group = sum ? { key: value, count: 0, sum: 0 } : { key: value, count: 0 };
    groups.set(name, group);
  }
  group.count += 1;
  if (!sum) return;
  const amount = at(object, sum) ?? 0;
  if (typeof amount !== 'number') throw new Failure(`${sum.join('.')} is ${JSON.stringify(amount)}, not a number`);
  group.sum += amount;
}

// The value at the path in the object, if every step is the object's own.
function at(object, path) {
  let value = object;
  for (const step of path) {
    if (value === null || typeof value !== 'object' || !Object.hasOwn(value, step)) return undefined;
    value = value[step];
  }
  return value;
}

// Each line of the stream as an array of bytes, without its newline.
function* linesOf(stream) {
  let line = [];
  for (;;) {
    const chunk = read(stream);
    if (chunk === null) break;
    for (const byte of chunk) {
      if (byte === 0x0a) {
        yield line;
        line = [];
      } else if (line.length === MAX_LINE_BYTES) {
        throw new Failure(`a line is longer than ${MAX_LINE_BYTES} bytes`);
      } else {
        line.push(byte);
      }
    }
  }
  if (line.length > 0) yield line;
}

// The next bytes of the stream, or null at its end.
function read(stream) {
  try {
    return stream.blockingRead(READ_BYTES);
  } catch (error) {
    if (error.payload?.tag === 'closed') return null;
    throw new Failure('stdin cannot be read', EXIT_FAILED);
  }
}

function write(stream, text) {
  const bytes = encode(text);
  for (let start = 0; start < bytes.length; start += WRITE_BYTES) {
    try {
      stream.blockingWriteAndFlush(bytes.slice(start, start + WRITE_BYTES));
    } catch {
      exitWithCode(EXIT_FAILED);
    }
  }
}

// Text of UTF-8 bytes. Escapes make `decodeURIComponent` the decoder, a strict one.
function decode(bytes) {
  let text = '';
  let escaped = '';
  for (const byte of bytes) {
    if (byte >= 0x80) {
      escaped += '%' + byte.toString(16);
      continue;
    }
    if (escaped !== '') {
      text += decodeEscaped(escaped);
      escaped = '';
    }
    text += String.fromCharCode(byte);
  }
  return escaped === '' ? text : text + decodeEscaped(escaped);
}

function decodeEscaped(escaped) {
  try {
    return decodeURIComponent(escaped);
  } catch {
    throw new Failure('not UTF-8');
  }
}

// UTF-8 bytes of text. A lone surrogate, which JSON can spell but UTF-8 cannot, becomes U+FFFD.
function encode(text) {
  const bytes = [];
  for (const sign of text) {
    let code = sign.codePointAt(0);
    if (code >= 0xd800 && code <= 0xdfff) code = 0xfffd;
    if (code < 0x80) bytes.push(code);
    else if (code < 0x800) bytes.push(0xc0 | (code >> 6), 0x80 | (code & 0x3f));
    else if (code < 0x10000) bytes.push(0xe0 | (code >> 12), 0x80 | ((code >> 6) & 0x3f), 0x80 | (code & 0x3f));
    else bytes.push(0xf0 | (code >> 18), 0x80 | ((code >> 12) & 0x3f), 0x80 | ((code >> 6) & 0x3f), 0x80 | (code & 0x3f));
  }
  return new Uint8Array(bytes);
}
