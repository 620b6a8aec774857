{{/* Every resource name of the chart, one template each. */}}

{{/* With the release's name, so that two releases do not collide in a namespace; the chart's own where it is in that. */}}
{{- define "toxicity-operator.name" -}}
{{- if contains "toxicity-operator" .Release.Name -}}
{{ .Release.Name }}
{{- else -}}
{{ printf "%s-toxicity-operator" .Release.Name | trunc 63 | trimSuffix "-" }}
{{- end -}}
{{- end }}

{{/* Of the Lease that the pods of a release share, and of the Role that lets them. */}}
{{- define "toxicity-operator.lease" -}}
{{ include "toxicity-operator.name" . }}
{{- end }}

{{- define "toxicity-operator.serviceAccount" -}}
{{ include "toxicity-operator.name" . }}
{{- end }}

{{/* Cluster-scoped names carry the namespace, so that two releases do not collide. */}}
{{- define "toxicity-operator.clusterRole" -}}
{{ .Release.Namespace }}-{{ include "toxicity-operator.name" . }}
{{- end }}

{{/* Of those who edit or view the resources of a namespace. */}}
{{- define "toxicity-operator.editRole" -}}
{{ include "toxicity-operator.clusterRole" . }}-edit
{{- end }}

{{- define "toxicity-operator.viewRole" -}}
{{ include "toxicity-operator.clusterRole" . }}-view
{{- end }}

{{- define "toxicity-operator.servingMonitor" -}}
{{ include "toxicity-operator.name" . }}-serving
{{- end }}

{{- define "toxicity-operator.dashboard" -}}
{{ include "toxicity-operator.name" . }}-dashboard
{{- end }}

{{- define "toxicity-operator.test" -}}
{{ include "toxicity-operator.name" . }}-test
{{- end }}

{{/* Of which images and Secrets a resource may reference. */}}
{{- define "toxicity-operator.referencesPolicy" -}}
{{ .Release.Namespace }}-{{ .Release.Name }}-references
{{- end }}

{{- define "toxicity-operator.loadTestStatusPolicy" -}}
{{ .Release.Namespace }}-{{ .Release.Name }}-load-test-status
{{- end }}
