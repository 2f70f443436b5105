package main

import (
	"bufio"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/signal"
	"sync/atomic"
	"syscall"
	"time"
)

func serve(arguments []string) error {
	flags := flag.NewFlagSet("serve", flag.ExitOnError)
	port := flags.Int("port", 8080, "port, all addresses of both families")
	_ = flags.Parse(arguments)
	name, err := os.Hostname()
	if err != nil {
		return err
	}
	var probes atomic.Int64
	http.HandleFunc("/", func(response http.ResponseWriter, request *http.Request) {
		fmt.Fprintf(response, "hello from %s, peer %s, path %s\n", name, request.RemoteAddr, request.URL.Path)
	})
	http.HandleFunc("/probe", func(http.ResponseWriter, *http.Request) { probes.Add(1) })
	http.HandleFunc("/probes", func(response http.ResponseWriter, _ *http.Request) { fmt.Fprintln(response, probes.Load()) })
	server := &http.Server{Addr: fmt.Sprintf(":%d", *port)}
	stop := make(chan os.Signal, 1)
	signal.Notify(stop, syscall.SIGTERM, syscall.SIGINT)
	go func() {
		<-stop
		_ = server.Close()
	}()
	if err := server.ListenAndServe(); !errors.Is(err, http.ErrServerClosed) {
		return err
	}
	return nil
}

func get(arguments []string) error {
	flags := flag.NewFlagSet("get", flag.ExitOnError)
	timeout := flags.Duration("timeout", 5*time.Second, "of one request")
	count := flags.Int("n", 1, "how many requests, one after the other")
	head := flags.Bool("i", false, "with the head of the answer")
	_ = flags.Parse(arguments)
	client := newClient(*timeout)
	for range *count {
		if err := show(client, flags.Arg(0), *head); err != nil {
			return err
		}
	}
	return nil
}

func show(client *http.Client, url string, head bool) error {
	response, err := client.Get(url)
	if err != nil {
		return err
	}
	body, err := read(response)
	if err != nil {
		return err
	}
	if head {
		fmt.Printf("%s\n", response.Status)
		if err := response.Header.Write(os.Stdout); err != nil {
			return err
		}
	}
	_, err = os.Stdout.Write(body)
	return err
}

// Enough to see what a failure was; the count goes on.
const reportedFailures = 10

type failure struct {
	AtMs   int64  `json:"atMs"`
	TookMs int64  `json:"tookMs"`
	Error  string `json:"error"`
}

// What a load prints at its end.
type report struct {
	Requests int `json:"requests"`
	Failed   int `json:"failed"`
	// Connections, of a load that keeps them.
	Dialled   int       `json:"dialled"`
	SlowestMs int64     `json:"slowestMs"`
	ForMs     int64     `json:"forMs"`
	Failures  []failure `json:"failures"`
}

func load(arguments []string) error {
	flags := flag.NewFlagSet("load", flag.ExitOnError)
	interval := flags.Duration("interval", 20*time.Millisecond, "between two requests")
	timeout := flags.Duration("timeout", 5*time.Second, "of one request")
	keep := flags.Bool("keep", false, "one connection for all requests, and another only when the server announces its end")
	_ = flags.Parse(arguments)
	url := flags.Arg(0)
	result := report{Failures: []failure{}}
	kept := keptConnection{timeout: *timeout}
	once := func() error {
		_, err := ask(newClient(*timeout), url)
		return err
	}
	if *keep {
		once = func() error { return kept.ask(url) }
	}

	ended := make(chan struct{})
	go func() {
		_, _ = io.Copy(io.Discard, os.Stdin)
		close(ended)
	}()
	start := time.Now()
	ticks := time.NewTicker(*interval)
	for running := true; running; {
		begun := time.Now()
		err := once()
		took := time.Since(begun).Milliseconds()
		result.Requests++
		result.SlowestMs = max(result.SlowestMs, took)
		if result.Requests == 1 {
			// Whoever waits for the load to be under way reads this.
			fmt.Fprintln(os.Stderr, "started")
		}
		if err != nil {
			result.Failed++
			if len(result.Failures) < reportedFailures {
				result.Failures = append(result.Failures, failure{begun.Sub(start).Milliseconds(), took, err.Error()})
			}
		}
		select {
		case <-ended:
			running = false
		case <-ticks.C:
		}
	}
	result.ForMs = time.Since(start).Milliseconds()
	result.Dialled = kept.dialled
	return json.NewEncoder(os.Stdout).Encode(result)
}

// A connection for each request.
func newClient(timeout time.Duration) *http.Client {
	return &http.Client{Timeout: timeout, Transport: &http.Transport{DisableKeepAlives: true}}
}

// One connection for all requests. Go's own pool dials a second one now and then. After an answer with "Connection: close" there is
// another one, as with every client of HTTP; any other end is final.
type keptConnection struct {
	timeout time.Duration
	conn    net.Conn
	reader  *bufio.Reader
	dialled int
	broken  error
}

func (kept *keptConnection) ask(url string) error {
	if kept.broken != nil {
		return kept.broken
	}
	err := kept.tryAsk(url)
	if status := new(statusError); !errors.As(err, &status) {
		kept.broken = err
	}
	return err
}

func (kept *keptConnection) tryAsk(url string) error {
	request, err := http.NewRequest(http.MethodGet, url, nil)
	if err != nil {
		return err
	}
	if kept.conn == nil {
		address := request.URL.Host
		if request.URL.Port() == "" {
			address += ":80"
		}
		if kept.conn, err = net.DialTimeout("tcp", address, kept.timeout); err != nil {
			return err
		}
		kept.dialled++
		kept.reader = bufio.NewReader(kept.conn)
	}
	if err := kept.conn.SetDeadline(time.Now().Add(kept.timeout)); err != nil {
		return err
	}
	if err := request.Write(kept.conn); err != nil {
		return err
	}
	response, err := http.ReadResponse(kept.reader, request)
	if err != nil {
		return err
	}
	_, err = read(response)
	if response.Close {
		_ = kept.conn.Close()
		kept.conn = nil
	}
	return err
}

func ask(client *http.Client, url string) ([]byte, error) {
	response, err := client.Get(url)
	if err != nil {
		return nil, err
	}
	return read(response)
}

// An answer, but not the wanted one.
type statusError struct{ text string }

func (status *statusError) Error() string { return status.text }

// The body; an error for a status from 400 on.
func read(response *http.Response) ([]byte, error) {
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	if err == nil && response.StatusCode >= 400 {
		err = &statusError{fmt.Sprintf("%s: %s", response.Status, body)}
	}
	return body, err
}
