// Table of contents of a Markdown text: reads the text from stdin, prints a nested list of links to its headings.
//
//   markdown-toc [--depth N]      headings of levels 1 to N (6 when not given)
//
// Headings are those that begin with "#" (ATX) and stand outside fenced code. The links are made as code hosting sites
// make them: lower case, punctuation dropped, spaces become "-", and a repeated one gets "-1", "-2", ...
//
// Exit: 0 done, 1 writing failed, 2 the text has no heading or a fence is never closed, 64 wrong arguments.

import { fd_write } from "@assemblyscript/wasi-shim/assembly/bindings/wasi_snapshot_preview1";

const READ_BYTES: i32 = 64 * 1024;
/** Longest text, in bytes. */
const MAX_BYTES: i32 = 16 * 1024 * 1024;
const MAX_LEVEL: i32 = 6;

const EXIT_FAILED: i32 = 1;
const EXIT_BAD_INPUT: i32 = 2;
const EXIT_USAGE: i32 = 64;

const STDOUT: u32 = 1;
const STDERR: u32 = 2;

main();

function main(): void {
  const depth = readDepth();
  const lines = readText().split("\n");
  const seen = new Map<string, i32>();
  const toc = new Array<string>();
  let fence = "";
  let fenceLine = 0;
  for (let i = 0; i < lines.length; i++) {
    const line = lines[i].trimEnd();
    const mark = fenceOf(line);
    if (fence.length > 0) {
      if (closes(line, mark, fence)) fence = "";
      continue;
    }
    if (mark.length > 0) {
      fence = mark;
      fenceLine = i + 1;
      continue;
    }
    const level = levelOf(line);
    if (level == 0) continue;
    const title = titleOf(line, level);
    if (title.length == 0) continue;
    // Also for headings that are too deep to be listed: their links count for the numbering.
    const anchor = unique(slug(title), seen);
    if (level <= depth) {
      toc.push("  ".repeat(level - 1) + "- [" + title + "](#" + anchor + ")\n");
    }
  }
  if (fence.length > 0) {
    fail(EXIT_BAD_INPUT, "line " + fenceLine.toString() + ": the code that begins here with " + fence + " has no end");
  }
  if (toc.length == 0) {
    fail(EXIT_BAD_INPUT, "the text has no heading of level 1 to " + depth.toString());
  }
  if (!writeAll(STDOUT, toc.join(""))) process.exit(EXIT_FAILED);
}

function readDepth(): i32 {
  const args = process.argv;
  if (args.length < 2) return MAX_LEVEL;
  if (args.length != 3 || args[1] != "--depth") {
    fail(EXIT_USAGE, "usage: markdown-toc [--depth N]");
  }
  const depth = args[2].length == 1 ? args[2].charCodeAt(0) - 0x30 : 0;
  if (depth < 1 || depth > MAX_LEVEL) {
    fail(EXIT_USAGE, "--depth " + args[2] + ": must be 1 to " + MAX_LEVEL.toString());
  }
  return depth;
}

function readText(): string {
  const buffer = new ArrayBuffer(READ_BYTES);
  const text = new Array<u8>();
  for (;;) {
    const got = process.stdin.read(buffer);
    if (got == 0) break;
    if (text.length + got > MAX_BYTES) {
      fail(EXIT_BAD_INPUT, "the text is longer than " + MAX_BYTES.toString() + " bytes");
    }
    const at = text.length;
    text.length = at + got;
    memory.copy(text.dataStart + at, changetype<usize>(buffer), got);
  }
  return String.UTF8.decodeUnsafe(text.dataStart, text.length);
}

/** The three or more "`" or "~" that begin the line after at most three spaces, or "". */
function fenceOf(line: string): string {
  const start = indentOf(line);
  if (start > 3 || start >= line.length) return "";
  const mark = line.charCodeAt(start);
  if (mark != 0x60 && mark != 0x7e) return "";
  let end = start;
  while (end < line.length && line.charCodeAt(end) == mark) end++;
  // "```x```" is code within a line, not a fence.
  if (mark == 0x60 && line.indexOf("`", end) >= 0) return "";
  return end - start >= 3 ? line.substring(start, end) : "";
}

/** Whether `mark` ends the code that `fence` began: the same sign, at least as often, nothing behind it. */
function closes(line: string, mark: string, fence: string): bool {
  return mark.length >= fence.length && mark.charCodeAt(0) == fence.charCodeAt(0) &&
    line.length == indentOf(line) + mark.length;
}

function indentOf(line: string): i32 {
  let at = 0;
  while (at < line.length && line.charCodeAt(at) == 0x20) at++;
  return at;
}

/** The level of the heading in this line, or 0. */
function levelOf(line: string): i32 {
  const start = indentOf(line);
  if (start > 3) return 0;
  let end = start;
  while (end < line.length && line.charCodeAt(end) == 0x23) end++;
  const level = end - start;
  if (level > MAX_LEVEL) return 0;
  return end == line.length || line.charCodeAt(end) == 0x20 ? level : 0;
}

/** The heading's text, without the "#" before it and those that may stand behind it. */
function titleOf(line: string, level: i32): string {
  const title = line.substring(indentOf(line) + level).trim();
  let end = title.length;
  while (end > 0 && title.charCodeAt(end - 1) == 0x23) end--;
  if (end == 0 || title.charCodeAt(end - 1) == 0x20) return title.substring(0, end).trimEnd();
  return title;
}

function slug(title: string): string {
  let out = "";
  const lower = title.toLowerCase();
  for (let i = 0; i < lower.length; i++) {
    const unit = lower.charCodeAt(i);
    if (unit == 0x20) out += "-";
    else if (isKept(unit)) out += String.fromCharCode(unit);
  }
  return out;
}

/** Letters, digits, "-" and "_"; beyond ASCII everything but punctuation and signs. */
function isKept(unit: i32): bool {
  if (unit < 0x80) {
    return (unit >= 0x61 && unit <= 0x7a) || (unit >= 0x30 && unit <= 0x39) || unit == 0x2d || unit == 0x5f;
  }
  if (unit < 0xc0) return unit == 0xaa || unit == 0xb5 || unit == 0xba;
  return unit != 0xd7 && unit != 0xf7 && !(unit >= 0x2000 && unit <= 0x2bff) && !(unit >= 0x3000 && unit <= 0x3004) &&
    !(unit >= 0x3008 && unit <= 0x3020);
}

function unique(anchor: string, seen: Map<string, i32>): string {
  if (!seen.has(anchor)) {
    seen.set(anchor, 0);
    return anchor;
  }
  const count = seen.get(anchor) + 1;
  seen.set(anchor, count);
  return anchor + "-" + count.toString();
}

/** A write may take less than it was given; the shim's own does not look. */
function writeAll(fd: u32, text: string): bool {
  const bytes = String.UTF8.encode(text);
  const vector = new StaticArray<usize>(2);
  const done = new StaticArray<usize>(1);
  let at = 0;
  while (at < bytes.byteLength) {
    vector[0] = changetype<usize>(bytes) + at;
    vector[1] = bytes.byteLength - at;
    if (fd_write(fd, changetype<usize>(vector), 1, changetype<usize>(done)) != 0) return false;
    at += <i32>done[0];
  }
  return true;
}

function fail(code: i32, message: string): void {
  writeAll(STDERR, "markdown-toc: " + message + "\n");
  process.exit(code);
}
