// The programs of a node that no container runtime is there to run: its first process, and the application of a pod.
//
//	pod init                          first process of a node: takes the dead of all others until SIGTERM
//	pod serve -name=NAME -ports=80,81 HTTP on each port, both families; answers as JSON who asked whom
//	pod lookup -server=IP -name=HOST  asks one DNS server for the addresses of a name, by UDP or -tcp
//	pod burst                         runs a CNI plugin for many pods (burst.go)
package main

import (
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"log"
	"net"
	"net/http"
	"os"
	"os/signal"
	"strings"
	"syscall"
	"time"
)

func main() {
	if len(os.Args) < 2 {
		log.Fatal("pod: init, serve, lookup or burst?")
	}
	flags := flag.NewFlagSet(os.Args[1], flag.ExitOnError)
	name := flags.String("name", "", "serve: whose application this is; lookup: the name to ask for")
	ports := flags.String("ports", "80", "serve: ports, comma-separated")
	server := flags.String("server", "", "lookup: address of the DNS server")
	tcp := flags.Bool("tcp", false, "lookup: by TCP")
	_ = flags.Parse(os.Args[2:])
	switch os.Args[1] {
	case "init":
		reap()
	case "serve":
		serve(*name, strings.Split(*ports, ","))
	case "lookup":
		lookup(*server, *name, *tcp)
	case "burst":
		burst()
	default:
		log.Fatalf("pod: unknown mode %q", os.Args[1])
	}
}

func reap() {
	signals := make(chan os.Signal, 16)
	signal.Notify(signals, syscall.SIGCHLD, syscall.SIGTERM)
	for received := range signals {
		if received == syscall.SIGTERM {
			return
		}
		for {
			var status syscall.WaitStatus
			if pid, err := syscall.Wait4(-1, &status, syscall.WNOHANG, nil); pid <= 0 || err != nil {
				break
			}
		}
	}
}

func serve(name string, ports []string) {
	http.HandleFunc("/", func(response http.ResponseWriter, request *http.Request) {
		response.Header().Set("Content-Type", "application/json")
		_ = json.NewEncoder(response).Encode(map[string]string{
			"name":   name,
			"client": request.RemoteAddr,
			"path":   request.URL.Path,
		})
	})
	failed := make(chan error)
	for _, port := range ports {
		listener, err := net.Listen("tcp", ":"+port)
		if err != nil {
			log.Fatal(err)
		}
		go func() { failed <- http.Serve(listener, nil) }()
	}
	fmt.Println("serving")
	log.Fatal(<-failed)
}

func lookup(server, name string, tcp bool) {
	resolver := net.Resolver{
		PreferGo: true,
		Dial: func(ctx context.Context, network, _ string) (net.Conn, error) {
			if tcp {
				network = "tcp"
			}
			var dialer net.Dialer
			return dialer.DialContext(ctx, network, net.JoinHostPort(server, "53"))
		},
	}
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	addresses, err := resolver.LookupHost(ctx, name)
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(strings.Join(addresses, " "))
}
