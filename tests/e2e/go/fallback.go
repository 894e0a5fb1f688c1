// Asks a registry as containerd and crane ask an insecure one: by https, and by http when the
// server turns out to speak plain HTTP. Prints the scheme and the status.
package main

import (
	"crypto/tls"
	"fmt"
	"net/http"
	"os"
	"strings"
)

func main() {
	transport := &http.Transport{TLSClientConfig: &tls.Config{InsecureSkipVerify: true}}
	client := &http.Client{Transport: transport}
	scheme := "https"
	response, err := client.Get("https://" + os.Args[1])
	if err != nil && strings.Contains(err.Error(), "server gave HTTP response to HTTPS client") {
		scheme = "http"
		response, err = client.Get("http://" + os.Args[1])
	}
	if err != nil {
		fmt.Println(err)
		os.Exit(1)
	}
	fmt.Println(scheme, response.StatusCode)
}
