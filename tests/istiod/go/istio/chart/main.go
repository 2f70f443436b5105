// What `helm template` does with one chart, by Helm's own packages, which istioctl is built with anyway.
//
//	chart -release=NAME -namespace=NAMESPACE -kube-version=1.37.2 [-values=FILE]... DIRECTORY
//
// Later files of values win. Prints the rendered templates.
package main

import (
	"flag"
	"fmt"
	"log"
	"os"
	"sort"
	"strings"

	"helm.sh/helm/v4/pkg/chart/common"
	commonutil "helm.sh/helm/v4/pkg/chart/common/util"
	"helm.sh/helm/v4/pkg/chart/v2/loader"
	"helm.sh/helm/v4/pkg/engine"
	"sigs.k8s.io/yaml"
)

type fileNames []string

func (names *fileNames) String() string { return strings.Join(*names, ",") }

func (names *fileNames) Set(name string) error {
	*names = append(*names, name)
	return nil
}

func main() {
	log.SetFlags(0)
	release := flag.String("release", "", "name of the release")
	namespace := flag.String("namespace", "", "its namespace")
	kubeVersion := flag.String("kube-version", "", "version of Kubernetes that the chart is told")
	var files fileNames
	flag.Var(&files, "values", "file of values")
	flag.Parse()
	if err := render(flag.Arg(0), *release, *namespace, *kubeVersion, files); err != nil {
		log.Fatalf("chart %s: %v", flag.Arg(0), err)
	}
}

func render(directory, release, namespace, kubeVersion string, files []string) error {
	chart, err := loader.LoadDir(directory)
	if err != nil {
		return err
	}
	values := map[string]any{}
	for _, name := range files {
		text, err := os.ReadFile(name)
		if err != nil {
			return err
		}
		layer := map[string]any{}
		if err := yaml.Unmarshal(text, &layer); err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
		merge(values, layer)
	}
	capabilities := *common.DefaultCapabilities
	version, err := common.ParseKubeVersion(kubeVersion)
	if err != nil {
		return err
	}
	capabilities.KubeVersion = *version
	options := common.ReleaseOptions{Name: release, Namespace: namespace, Revision: 1, IsInstall: true}
	all, err := commonutil.ToRenderValues(chart, values, options, &capabilities)
	if err != nil {
		return err
	}
	rendered, err := engine.Render(chart, all)
	if err != nil {
		return err
	}
	names := make([]string, 0, len(rendered))
	for name := range rendered {
		if !strings.HasSuffix(name, "NOTES.txt") && strings.TrimSpace(rendered[name]) != "" {
			names = append(names, name)
		}
	}
	sort.Strings(names)
	for _, name := range names {
		fmt.Printf("---\n# Source: %s\n%s\n", name, rendered[name])
	}
	return nil
}

// Maps are merged, everything else is replaced.
func merge(into, from map[string]any) {
	for key, value := range from {
		inner, isMap := value.(map[string]any)
		existing, wasMap := into[key].(map[string]any)
		if isMap && wasMap {
			merge(existing, inner)
		} else {
			into[key] = value
		}
	}
}
