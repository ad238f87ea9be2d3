//! Histogram of the line lengths of a text on stdin, in buckets of powers of two, with bars.
//!
//! Only WASI's own calls are used: Zig's I/O interface still changes between versions.
//!
//! Exit: 0 done, 1 reading or writing failed, 2 the input is not text (it has a NUL byte), 64 there were arguments.

const std = @import("std");
const wasi = std.os.wasi;

/// Bytes read at once.
const read_bytes = 64 * 1024;
/// Columns of the longest bar.
const bar_columns = 40;
/// Bucket 0 is the empty line; bucket n holds lengths from 2^(n-1) to 2^n - 1.
const bucket_count = 65;
/// Longest line printed here: two u64, their layout and a bar.
const line_bytes = 128;

const stdin_fd: wasi.fd_t = 0;
const stdout_fd: wasi.fd_t = 1;
const stderr_fd: wasi.fd_t = 2;

const Histogram = struct {
    buckets: [bucket_count]u64 = @splat(0),
    lines: u64 = 0,
    bytes: u64 = 0,
    longest: u64 = 0,
    /// Length of the line that has not ended yet.
    open: u64 = 0,

    /// Adds text; returns the offset of a NUL byte in the whole input, if there is one.
    fn add(self: *Histogram, text: []const u8) ?u64 {
        for (text) |byte| {
            switch (byte) {
                0 => return self.bytes,
                '\n' => self.endLine(),
                else => self.open += 1,
            }
            self.bytes += 1;
        }
        return null;
    }

    fn endLine(self: *Histogram) void {
        self.buckets[64 - @as(usize, @clz(self.open))] += 1;
        self.lines += 1;
        self.longest = @max(self.longest, self.open);
        self.open = 0;
    }

    fn print(self: *const Histogram) void {
        say(stdout_fd, "{d} lines, {d} bytes, longest line {d}\n", .{ self.lines, self.bytes, self.longest });
        if (self.lines == 0) return;
        const highest = 64 - @as(usize, @clz(self.longest));
        const most = std.mem.max(u64, &self.buckets);
        for (self.buckets[0 .. highest + 1], 0..) |count, bucket| {
            printBucket(bucket, count, most);
        }
    }
};

fn printBucket(bucket: usize, count: u64, most: u64) void {
    const low: u64 = if (bucket == 0) 0 else @as(u64, 1) << @intCast(bucket - 1);
    const high: u64 = if (bucket == 0) 0 else low + (low - 1);
    const bars: [bar_columns]u8 = @splat('#');
    // Rounded up, so that no line that is there looks like none.
    const wide = @as(u128, count) * bar_columns + (most - 1);
    const bar = bars[0..@intCast(wide / most)];
    say(stdout_fd, "{d:>8} to {d:<8} {d:>8}  {s}\n", .{ low, high, count, bar });
}

pub fn main() void {
    var argument_count: usize = 0;
    var argument_bytes: usize = 0;
    _ = wasi.args_sizes_get(&argument_count, &argument_bytes);
    if (argument_count > 1) {
        fail(64, "takes no arguments, only stdin", .{});
    }
    var histogram: Histogram = .{};
    var buffer: [read_bytes]u8 = undefined;
    while (true) {
        const text = read(&buffer);
        if (text.len == 0) break;
        if (histogram.add(text)) |offset| {
            fail(2, "the input is not text: byte {d} is NUL", .{offset});
        }
    }
    // A last line without its newline is a line too.
    if (histogram.open > 0) histogram.endLine();
    histogram.print();
}

fn read(buffer: []u8) []u8 {
    const vector = [1]wasi.iovec_t{.{ .base = buffer.ptr, .len = buffer.len }};
    var got: usize = 0;
    const errno = wasi.fd_read(stdin_fd, &vector, 1, &got);
    if (errno != .SUCCESS) fail(1, "stdin: {s}", .{@tagName(errno)});
    return buffer[0..got];
}

fn say(fd: wasi.fd_t, comptime format: []const u8, arguments: anytype) void {
    var line: [line_bytes]u8 = undefined;
    var rest: []const u8 = std.fmt.bufPrint(&line, format, arguments) catch unreachable;
    while (rest.len > 0) {
        const vector = [1]wasi.ciovec_t{.{ .base = rest.ptr, .len = rest.len }};
        var put: usize = 0;
        // With stdout gone there is only the exit code left to tell it.
        if (wasi.fd_write(fd, &vector, 1, &put) != .SUCCESS) wasi.proc_exit(1);
        rest = rest[put..];
    }
}

fn fail(code: u32, comptime format: []const u8, arguments: anytype) noreturn {
    say(stderr_fd, "histogram: " ++ format ++ "\n", arguments);
    wasi.proc_exit(code);
}
