{{- define "broadsheet.name" -}}
{{- if contains "broadsheet" .Release.Name }}{{ .Release.Name | trunc 50 | trimSuffix "-" }}{{ else }}{{ printf "%s-broadsheet" .Release.Name | trunc 50 | trimSuffix "-" }}{{ end -}}
{{- end }}

{{- define "broadsheet.selector" -}}
app.kubernetes.io/name: broadsheet-operator
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end }}

{{- define "broadsheet.labels" -}}
{{ include "broadsheet.selector" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version }}
{{- end }}
