"""plumber2's annotated route file in Python, run by examples/api_annotated.py. As calls: examples/api_message.py"""

# fmt: off


#* @message
def hello(message):
    return "Hello, you..." if message == "Hello" else None


#* @message
#* @async
def hello_from_a_thread(message):
    return "Hello, you..." if message == "Hello" else None


#* @then
def tell(server):
    server.log("message", "websocket message received")


#* @get /hello/<name>
def greet(name):
    return f"Hello, {name}...\n"
