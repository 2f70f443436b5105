// A kubelet as far as `kubectl port-forward` and istioctl need one: it takes the API server's port-forward requests for any pod
// of its node and connects to the port on the loopback of the network namespace that it runs in, which is ztunnel's.
package main

import (
	"flag"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"sync"

	"k8s.io/streaming/pkg/httpstream"
	"k8s.io/streaming/pkg/httpstream/spdy"
)

// The headers and the protocol of the port-forward contract between the API server and a kubelet.
const (
	protocol       = "portforward.k8s.io"
	streamType     = "streamType"
	portHeader     = "port"
	requestHeader  = "requestID"
	errorStream    = "error"
	dataStream     = "data"
	maxPendingPair = 64
)

// pair is the two streams of one forwarded connection.
type pair struct{ data, failure httpstream.Stream }

func main() {
	address := flag.String("listen", ":10250", "address of the HTTPS server")
	certificate := flag.String("cert", "", "server certificate, PEM")
	key := flag.String("key", "", "its key, PEM")
	flag.Parse()
	http.HandleFunc("/portForward/{namespace}/{pod}", portForward)
	log.Fatal(http.ListenAndServeTLS(*address, *certificate, *key, nil))
}

func portForward(w http.ResponseWriter, r *http.Request) {
	if _, err := httpstream.Handshake(r, w, []string{protocol}); err != nil {
		log.Printf("handshake: %v", err)
		return
	}
	streams := make(chan httpstream.Stream, maxPendingPair)
	connection := spdy.NewResponseUpgrader().UpgradeResponse(w, r, func(stream httpstream.Stream, _ <-chan struct{}) error {
		streams <- stream
		return nil
	})
	if connection == nil {
		return
	}
	defer connection.Close()
	pending := map[string]*pair{}
	var forwards sync.WaitGroup
	defer forwards.Wait()
	for {
		select {
		case <-connection.CloseChan():
			return
		case stream := <-streams:
			id := stream.Headers().Get(requestHeader)
			if pending[id] == nil {
				pending[id] = &pair{}
			}
			switch stream.Headers().Get(streamType) {
			case dataStream:
				pending[id].data = stream
			case errorStream:
				pending[id].failure = stream
			}
			if both := pending[id]; both.data != nil && both.failure != nil {
				delete(pending, id)
				forwards.Go(func() { forward(connection, both) })
			}
		}
	}
}

// forward copies both ways until both are at their end; what fails is told on the error stream.
func forward(connection httpstream.Connection, both *pair) {
	defer connection.RemoveStreams(both.data, both.failure)
	defer both.data.Close()
	defer both.failure.Close()
	port := both.data.Headers().Get(portHeader)
	target, err := net.Dial("tcp", net.JoinHostPort("localhost", port))
	if err != nil {
		fmt.Fprintf(both.failure, "cannot connect to port %s: %v", port, err)
		return
	}
	defer target.Close()
	done := make(chan struct{}, 2)
	go func() {
		_, _ = io.Copy(target, both.data)
		_ = target.(*net.TCPConn).CloseWrite()
		done <- struct{}{}
	}()
	go func() {
		_, _ = io.Copy(both.data, target)
		done <- struct{}{}
	}()
	<-done
}
