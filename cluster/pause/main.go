// Command pause is the only program of the node's own image. As `pause` it holds a pod's namespaces open and reaps its
// orphans; as `volume` it makes and removes the folders of the local-path provisioner, which calls it with
// `-p PATH -s BYTES -m MODE -a create|delete`.
package main

import (
	"flag"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"syscall"
)

func pause() {
	signals := make(chan os.Signal, 8)
	signal.Notify(signals, syscall.SIGINT, syscall.SIGTERM, syscall.SIGCHLD)
	for received := range signals {
		if received != syscall.SIGCHLD {
			return
		}
		for {
			if pid, err := syscall.Wait4(-1, nil, syscall.WNOHANG, nil); pid <= 0 || err != nil {
				break
			}
		}
	}
}

func volume() error {
	path := flag.String("p", "", "the volume's folder")
	action := flag.String("a", "", "create or delete")
	flag.String("s", "", "size in bytes, not enforced")
	flag.String("m", "", "Filesystem or Block, only the former is served")
	flag.Parse()
	switch {
	case *path == "":
		return fmt.Errorf("-p is missing")
	case *action == "create":
		if err := os.MkdirAll(*path, 0o777); err != nil {
			return err
		}
		// Pods run under their own users, and fsGroup does not reach into a host folder.
		return os.Chmod(*path, 0o777)
	case *action == "delete":
		return os.RemoveAll(*path)
	}
	return fmt.Errorf("unknown action %q", *action)
}

func main() {
	if filepath.Base(os.Args[0]) != "volume" {
		pause()
		return
	}
	if err := volume(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}
