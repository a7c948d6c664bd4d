// What KEDA's Kafka scalers say of a consumer group: the scalers of KEDA's own module, asked as KEDA asks them.
//
// Reads one JSON object a line, {"type": "kafka" or "apache-kafka", "metadata": {...}}, as `triggers` of a ScaledObject
// have it, and writes {"value": ..., "active": ..., "error": ...} for each.
package main

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"time"

	v2 "k8s.io/api/autoscaling/v2"

	"github.com/kedacore/keda/v2/pkg/scalers"
	"github.com/kedacore/keda/v2/pkg/scalers/scalersconfig"
)

type trigger struct {
	Type     string            `json:"type"`
	Metadata map[string]string `json:"metadata"`
}

type answer struct {
	Value  int64  `json:"value"`
	Active bool   `json:"active"`
	Error  string `json:"error"`
}

func ask(ctx context.Context, t trigger) (answer, error) {
	config := &scalersconfig.ScalerConfig{
		ScalableObjectName:      "readers",
		ScalableObjectNamespace: "default",
		ScalableObjectType:      "ScaledObject",
		TriggerType:             t.Type,
		TriggerMetadata:         t.Metadata,
		AuthParams:              map[string]string{},
		ResolvedEnv:             map[string]string{},
		MetricType:              v2.AverageValueMetricType,
		GlobalHTTPTimeout:       10 * time.Second,
	}
	makes := map[string]func(context.Context, *scalersconfig.ScalerConfig) (scalers.Scaler, error){
		"kafka":        scalers.NewKafkaScaler,
		"apache-kafka": scalers.NewApacheKafkaScaler,
	}
	scaler, err := makes[t.Type](ctx, config)
	if err != nil {
		return answer{}, err
	}
	defer scaler.Close(ctx)
	name := scaler.GetMetricSpecForScaling(ctx)[0].External.Metric.Name
	values, active, err := scaler.GetMetricsAndActivity(ctx, name)
	if err != nil {
		return answer{}, err
	}
	return answer{Value: values[0].Value.Value(), Active: active}, nil
}

func main() {
	lines := bufio.NewScanner(os.Stdin)
	out := json.NewEncoder(os.Stdout)
	for lines.Scan() {
		var t trigger
		if err := json.Unmarshal(lines.Bytes(), &t); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(2)
		}
		found, err := ask(context.Background(), t)
		if err != nil {
			found.Error = err.Error()
		}
		if err := out.Encode(found); err != nil {
			os.Exit(1)
		}
	}
}
