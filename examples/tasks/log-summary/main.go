// Log-summary reads a web server's access log (common or combined format) from stdin and prints how many
// requests and bytes there were, how many per status, and the most requested paths.
//
//	log-summary [--top N] < access.log
//
// Exit: 0 done, 1 reading or writing failed, 2 a line is malformed, 64 wrong arguments.
//
// It leaves out package fmt: that alone would double the module.
package main

import (
	"bufio"
	"cmp"
	"errors"
	"os"
	"slices"
	"strconv"
	"strings"
)

const (
	defaultTop = 5
	// Longest line of a log: servers cut requests off well before this.
	maxLineBytes = 64 * 1024
	// Most different paths: a scan of random paths must not eat the memory.
	maxPaths = 100_000

	exitFailed    = 1
	exitMalformed = 2
	exitUsage     = 64
)

// entry is what the summary needs of one line.
type entry struct {
	path   string
	status int
	bytes  uint64
}

type summary struct {
	requests uint64
	bytes    uint64
	statuses map[int]uint64
	paths    map[string]uint64
}

func main() {
	top, err := parseArgs(os.Args[1:])
	if err != nil {
		fail(exitUsage, err.Error())
	}
	lines := bufio.NewScanner(os.Stdin)
	lines.Buffer(make([]byte, 0, maxLineBytes), maxLineBytes)
	sum := summary{statuses: map[int]uint64{}, paths: map[string]uint64{}}
	number := 0
	for lines.Scan() {
		number++
		if lines.Text() == "" {
			continue
		}
		if err := sum.add(lines.Text()); err != nil {
			fail(exitMalformed, "line "+strconv.Itoa(number)+": "+err.Error())
		}
	}
	switch err := lines.Err(); {
	case errors.Is(err, bufio.ErrTooLong):
		fail(exitMalformed, "line "+strconv.Itoa(number+1)+": longer than "+strconv.Itoa(maxLineBytes)+" bytes")
	case err != nil:
		fail(exitFailed, "stdin: "+err.Error())
	}
	if _, err := os.Stdout.WriteString(sum.report(top)); err != nil {
		fail(exitFailed, "stdout: "+err.Error())
	}
}

func parseArgs(args []string) (top int, err error) {
	if len(args) == 0 {
		return defaultTop, nil
	}
	if len(args) != 2 || args[0] != "--top" {
		return 0, errors.New("usage: log-summary [--top N]")
	}
	top, err = strconv.Atoi(args[1])
	if err != nil || top < 0 {
		return 0, errors.New("--top " + strconv.Quote(args[1]) + ": must be a whole number")
	}
	return top, nil
}

func (s *summary) add(line string) error {
	one, err := parse(line)
	if err != nil {
		return err
	}
	if _, known := s.paths[one.path]; !known && len(s.paths) == maxPaths {
		return errors.New("more than " + strconv.Itoa(maxPaths) + " different paths")
	}
	s.requests++
	s.bytes += one.bytes
	s.statuses[one.status]++
	s.paths[one.path]++
	return nil
}

// parse takes apart
//
//	host ident user [time] "METHOD path PROTOCOL" status bytes
//
// and ignores what follows (the combined format's referrer and agent).
func parse(line string) (entry, error) {
	_, rest, found := strings.Cut(line, "] \"")
	if !found || strings.Count(line[:len(line)-len(rest)], " ") < 4 {
		return entry{}, errors.New("no 'host ident user [time] \"request\"' at its start")
	}
	request, rest, err := quoted(rest)
	if err != nil {
		return entry{}, err
	}
	fields := strings.Fields(rest)
	if len(fields) < 2 {
		return entry{}, errors.New("no status and size after the request")
	}
	status, err := strconv.Atoi(fields[0])
	if err != nil || status < 100 || status > 599 {
		return entry{}, errors.New("the status " + strconv.Quote(fields[0]) + " is not between 100 and 599")
	}
	var size uint64
	if fields[1] != "-" {
		if size, err = strconv.ParseUint(fields[1], 10, 63); err != nil {
			return entry{}, errors.New("the size " + strconv.Quote(fields[1]) + " is not a number or -")
		}
	}
	return entry{path: pathOf(request), status: status, bytes: size}, nil
}

// quoted splits text after the quote that ends it; servers write a quote in a request as \".
func quoted(text string) (inside, rest string, err error) {
	for at := 0; at < len(text); at++ {
		switch text[at] {
		case '\\':
			at++
		case '"':
			return text[:at], text[at+1:], nil
		}
	}
	return "", "", errors.New("the request has no closing quote")
}

// pathOf is the request's path without its query. What is no HTTP request at all (a scan, TLS on a plain port) is
// counted as it stands.
func pathOf(request string) string {
	words := strings.Split(request, " ")
	if len(words) != 3 {
		return request
	}
	path, _, _ := strings.Cut(words[1], "?")
	return path
}

func (s *summary) report(top int) string {
	var text strings.Builder
	text.WriteString("requests " + strconv.FormatUint(s.requests, 10) + "\n")
	text.WriteString("bytes " + strconv.FormatUint(s.bytes, 10) + "\n")
	for _, status := range sortedKeys(s.statuses, cmp.Compare[int]) {
		text.WriteString("status " + strconv.Itoa(status) + " " + strconv.FormatUint(s.statuses[status], 10) + "\n")
	}
	paths := sortedKeys(s.paths, func(a, b string) int {
		return cmp.Or(cmp.Compare(s.paths[b], s.paths[a]), strings.Compare(a, b))
	})
	for _, path := range paths[:min(top, len(paths))] {
		text.WriteString("path " + strconv.FormatUint(s.paths[path], 10) + " " + path + "\n")
	}
	return text.String()
}

func sortedKeys[K comparable](counts map[K]uint64, order func(a, b K) int) []K {
	keys := make([]K, 0, len(counts))
	for key := range counts {
		keys = append(keys, key)
	}
	slices.SortFunc(keys, order)
	return keys
}

func fail(code int, message string) {
	os.Stderr.WriteString("log-summary: " + message + "\n")
	os.Exit(code)
}
