{{/* Every resource name and image reference of the chart, one template each. */}}

{{/* Contains the release's name, so that two releases in one namespace do not collide. */}}
{{- define "toxicity-operator.name" -}}
{{- if contains "toxicity-operator" .Release.Name -}}
{{ .Release.Name }}
{{- else -}}
{{ printf "%s-toxicity-operator" .Release.Name | trunc 63 | trimSuffix "-" }}
{{- end -}}
{{- end }}

{{/* Name of the Lease that the pods of a release share, and of its Role. */}}
{{- define "toxicity-operator.lease" -}}
{{ include "toxicity-operator.name" . }}
{{- end }}

{{- define "toxicity-operator.serviceAccount" -}}
{{- if .Values.serviceAccount.create -}}
{{ .Values.serviceAccount.name | default (include "toxicity-operator.name" .) }}
{{- else -}}
{{ required "serviceAccount.create is false: set serviceAccount.name to an existing ServiceAccount" .Values.serviceAccount.name }}
{{- end -}}
{{- end }}

{{/* Cluster-scoped names contain the namespace, so that two releases do not collide. */}}
{{- define "toxicity-operator.clusterRole" -}}
{{ .Release.Namespace }}-{{ include "toxicity-operator.name" . }}
{{- end }}

{{/* Cluster roles that are aggregated to edit and view. */}}
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

{{/* Policy for the images and Secrets that a resource may reference. */}}
{{- define "toxicity-operator.referencesPolicy" -}}
{{ .Release.Namespace }}-{{ .Release.Name }}-references
{{- end }}

{{- define "toxicity-operator.loadTestStatusPolicy" -}}
{{ .Release.Namespace }}-{{ .Release.Name }}-load-test-status
{{- end }}

{{/* Reference of the image of one part: (list $ "training"). A digest needs no tag. Only AutoAWQ's may be absent. */}}
{{- define "toxicity-operator.image" -}}
{{- $root := first . -}}
{{- $image := index $root.Values.images (last .) -}}
{{- if kindIs "string" $image -}}
{{ $image }}
{{- else if $image.repository -}}
{{- $tag := $image.tag | default (empty $image.digest | ternary $root.Chart.AppVersion "") -}}
{{- with ($root.Values.global).imageRegistry | default $image.registry }}{{ . }}/{{ end -}}
{{ $image.repository }}
{{- with $tag }}:{{ . }}{{ end }}
{{- with $image.digest }}@{{ . }}{{ end }}
{{- else if ne (last .) "quantizationAutoawq" -}}
{{ fail (printf "images.%s.repository is empty: set the path of the image in its registry" (last .)) }}
{{- end -}}
{{- end }}
