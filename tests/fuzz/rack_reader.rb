# Says line by line what Rack reads in a form and Ruby's JSON in a document: `form HEX` or `json HEX` on standard input,
# one JSON object a line on standard output; an empty line sends off what was said so far.

require "json"
require "rack"

# `{"a" => {"b" => ["x"]}}` -> `{"a[b][0]" => "x"}`. A number that is no integer is only named: its text is gone.
def flat(value, name, into)
  case value
  when Hash
    value.each { |key, inner| flat(inner, name.empty? ? key : "#{name}[#{key}]", into) }
    into[name] = "{}" if value.empty? && !name.empty?
  when Array
    value.each_with_index { |inner, at| flat(inner, "#{name}[#{at}]", into) }
    into[name] = "[]" if value.empty?
  when Float then into[name] = { "float" => value.to_s }
  when nil then into[name] = "null"
  else into[name] = value.to_s
  end
  into
end

def fields(kind, body)
  read = kind == "form" ? Rack::Utils.parse_nested_query(body) : JSON.parse(body.force_encoding("UTF-8"))
  raise TypeError, "no object" unless read.is_a?(Hash)

  JSON.generate("fields" => flat(read, "", {}), "kinds" => { "amount" => read["amount"].class, "currency" => read["currency"].class })
rescue StandardError, SystemStackError => e
  JSON.generate("error" => e.class.to_s)
end

$stdout.sync = false
$stdin.each_line(chomp: true) do |line|
  kind, hex = line.split(" ", 2)
  kind.nil? ? $stdout.flush : $stdout.puts(fields(kind, [hex || ""].pack("H*")))
end
